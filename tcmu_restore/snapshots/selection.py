"""The selected data set: all of the origin, a list of extents, or a partition by its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..errors import BadSettingError, OutOfRangeError
from .command import Run

Extents = tuple[tuple[int, int], ...]
"""(offset, length) in bytes, ascending, none touching another."""

EXTENTS_MAX: Final = 4096
"""A data set in more pieces is better copied as a whole."""

_SECTOR: Final = 512
"""The unit in which partx counts, whatever the device's own blocks are."""


def check_extents(extents: Sequence[tuple[int, int]], size: int) -> Extents:
    """Return *extents* as few and in order. *size* is the origin's.

    Raises:
        OutOfRangeError: one is not the origin's. BadSettingError: one is empty, or too many.
    """
    if len(extents) > EXTENTS_MAX:
        raise BadSettingError("extent", f"{len(extents)} of them", f"{EXTENTS_MAX} are possible")
    coalesced: list[tuple[int, int]] = []
    for offset, length in sorted(extents):
        if offset < 0 or length <= 0:
            raise BadSettingError("extent", f"{offset}:{length}", "a length must be at least 1")
        if offset + length > size:
            raise OutOfRangeError(offset, length, size)
        last, last_length = coalesced[-1] if coalesced else (0, -1)
        if offset <= last + last_length:
            coalesced[-1] = (last, max(last_length, offset + length - last))
        else:
            coalesced.append((offset, length))
    return tuple(coalesced)


def partition_extent(path: str, number: int, size: int, run: Run) -> tuple[int, int]:
    """Return offset and length (bytes) of a partition of the device or file at *path*.

    *size* is the origin's, in bytes.

    Raises:
        BadSettingError: there is no such partition, or it lies beyond the end.
        SnapshotCommandError: there is no partition table that can be read.
    """
    words = ("partx", "--raw", "--noheadings", "--bytes", "--output", "NR,START,SECTORS", path)
    found = _parse(run(words))
    if number not in found:
        there = ", ".join(str(known) for known in sorted(found)) or "none"
        raise BadSettingError("partition", str(number), f"{path} has these: {there}")
    offset, length = found[number]
    if length <= 0 or offset + length > size:
        raise BadSettingError("partition", str(number), "it lies beyond the end of the origin")
    return offset, length


def _parse(table: str) -> dict[int, tuple[int, int]]:
    rows = [line.split() for line in table.splitlines() if line.strip()]
    return {
        int(number): (int(start) * _SECTOR, int(sectors) * _SECTOR)
        for number, start, sectors in rows
    }
