from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.errors import BadSettingError, OutOfRangeError
from tcmu_restore.snapshots.command import run
from tcmu_restore.snapshots.errors import SnapshotCommandError
from tcmu_restore.snapshots.selection import EXTENTS_MAX, check_extents, partition_extent
from tcmu_restore.units import MiB

SIZE = 64


@given(st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)), min_size=1))
def test_extents_are_as_few_as_can_be_and_hold_the_same_bytes(
    extents: list[tuple[int, int]],
) -> None:
    extents = [(offset, min(length, SIZE - offset)) for offset, length in extents]
    checked = check_extents(extents, SIZE)
    model = {byte for offset, length in extents for byte in range(offset, offset + length)}
    held = [byte for offset, length in checked for byte in range(offset, offset + length)]
    assert held == sorted(model)
    ends = [offset + length for offset, length in checked]
    assert all(end < offset for end, (offset, _) in zip(ends, checked[1:], strict=False))


def test_extents_that_touch_are_one() -> None:
    assert check_extents([(8, 2), (2, 2), (0, 2)], SIZE) == ((0, 4), (8, 2))


@pytest.mark.parametrize("extent", [(0, 0), (-1, 1), (3, -1)])
def test_extent_without_bytes_is_refused(extent: tuple[int, int]) -> None:
    with pytest.raises(BadSettingError):
        check_extents([(0, 4), extent], SIZE)


def test_extent_beyond_the_end_and_too_many_are_refused() -> None:
    with pytest.raises(OutOfRangeError):
        check_extents([(SIZE - 1, 2)], SIZE)
    with pytest.raises(BadSettingError):
        check_extents([(0, 1)] * (EXTENTS_MAX + 1), SIZE)


def make_disk(path: Path) -> None:
    """A sparse disk with a real partition table: 2 is the bytes 9 MiB to 25 MiB."""
    entries = [struct.pack("<4xB3xII", 0x83, *each) for each in ((2048, 16384), (18432, 32768))]
    with path.open("wb") as file:
        file.seek(446)
        file.write(b"".join(entries).ljust(64, b"\0") + b"\x55\xaa")
        file.truncate(64 * MiB)


def test_partition_is_found_by_its_number_in_a_real_table(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    make_disk(disk)
    assert partition_extent(str(disk), 2, 64 * MiB, run) == (9 * MiB, 16 * MiB)
    with pytest.raises(BadSettingError, match="has these: 1, 2"):
        partition_extent(str(disk), 3, 64 * MiB, run)
    with pytest.raises(BadSettingError, match="beyond the end"):
        partition_extent(str(disk), 2, 24 * MiB, run)


def test_disk_without_a_table_is_refused_in_one_sentence(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(MiB)
    with pytest.raises(SnapshotCommandError, match="failed to read partition table") as refused:
        partition_extent(str(disk), 1, MiB, run)
    assert "\n" not in str(refused.value)
