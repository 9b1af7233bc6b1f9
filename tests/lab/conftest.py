"""One lab for all lab tests of a process: three machines take a minute to boot.

With pytest-xdist every worker has a lab of its own, and a module's tests stay together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from vagrant.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Three machines, booted and provisioned, with this tree's package on them.

    TCMU_RESTORE_LAB_BARE=1 leaves the package out, for work on the lab itself.
    """
    with Lab(with_project=os.environ.get("TCMU_RESTORE_LAB_BARE") != "1") as lab:
        lab.boot()
        yield lab


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests recorded as ``measured``."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "measured":
                terminalreporter.line(f"measured: {value}")
