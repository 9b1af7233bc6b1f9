from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcmu_restore.service.registry_seam import Registry
from tests.cli.command_line import CommandLine
from tests.cli.fake_lio import FakeLio
from tests.service.fake_registry import FakeRegistry
from tests.service.private_bus import private_bus, service_thread


@pytest.fixture
def bus_address(tmp_path: Path) -> Iterator[str]:
    with private_bus(tmp_path) as address:
        yield address


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def lio() -> FakeLio:
    return FakeLio()


@pytest.fixture
def command_line(bus_address: str, registry: FakeRegistry, lio: FakeLio) -> Iterator[CommandLine]:
    """The command line against the real service on a bus of its own."""
    served: Registry = registry
    with service_thread(served, bus_address):
        yield CommandLine(bus_address, lio, io.StringIO())
