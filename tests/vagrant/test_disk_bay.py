"""Which disks a machine has, and what becomes of their contents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vagrant.disk_bay import DiskBay

from .nbd_client import NbdClient

MIB = 1 << 20


@pytest.fixture
def bay(tmp_path: Path) -> Iterator[DiskBay]:
    bay = DiskBay("machine", tmp_path)
    yield bay
    bay.close()


def test_plain_disk_is_a_file_that_outlives_removal(bay: DiskBay) -> None:
    disk = bay.add("plain", MIB, honour_flush=True, volatile=False)
    assert disk.path.stat().st_size == MIB
    assert disk.block_node()["driver"] == "raw"
    disk.path.write_bytes(b"kept" + bytes(MIB - 4))
    bay.remove("plain")
    assert "plain" not in bay
    again = bay.add("plain", MIB, honour_flush=True, volatile=False)
    assert again.path.read_bytes().startswith(b"kept")
    bay.remove("plain")
    bay.discard("plain")
    assert not disk.path.exists()


def test_volatile_disk_loses_power_when_it_is_taken_out_and_when_the_machine_does(
    bay: DiskBay,
) -> None:
    disk = bay.add("unsafe", MIB, honour_flush=False, volatile=True)
    assert disk.block_node()["driver"] == "nbd"
    assert disk.socket is not None
    for lose_power in (bay.power_cut, lambda: bay.remove("unsafe")):
        with NbdClient(disk.socket) as client:
            client.write(0, b"x" * 4096)
            assert bay.volatile("unsafe").cached_size == 4096
            lose_power()
        assert bay.volatile("unsafe").cached_size == 0
    bay.discard("unsafe")
    assert not list(disk.path.parent.glob("unsafe*"))
