"""The rig of the tests that run whole volumes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    folder = Path(tempfile.mkdtemp(prefix="tr"))  # short: it holds sockets
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        yield Rig(folder, stack)
