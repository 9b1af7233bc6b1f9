"""One lab for all lab tests of a session: three machines take a minute to boot."""

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
