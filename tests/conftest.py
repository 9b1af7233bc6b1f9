"""For every test: in continuous integration nothing may be skipped, and no example is timed."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import hypothesis
import pytest

hypothesis.settings.register_profile("project", deadline=None)  # a busy machine is no mistake
hypothesis.settings.load_profile("project")

# a run in the background ignores it, and so would what tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip has a reason on a laptop and is a failure in CI."""
    del item, call
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report
