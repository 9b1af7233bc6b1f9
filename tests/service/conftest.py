from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.private_bus import private_bus


@pytest.fixture
def bus_address(tmp_path: Path) -> Iterator[str]:
    with private_bus(tmp_path) as address:
        yield address
