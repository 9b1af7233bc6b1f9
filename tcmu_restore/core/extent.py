"""Byte ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """The bytes [offset, offset + length) of a volume; length is at least 1."""

    offset: int
    length: int

    def __post_init__(self) -> None:
        assert self.offset >= 0
        assert self.length > 0

    @property
    def end(self) -> int:
        """The first byte after the extent."""
        return self.offset + self.length

    def overlaps(self, other: Extent) -> bool:
        """Return whether any byte is in both."""
        return self.offset < other.end and other.offset < self.end

    def covers(self, other: Extent) -> bool:
        """Return whether every byte of *other* is in this one."""
        return self.offset <= other.offset and other.end <= self.end

    def intersection(self, other: Extent) -> Extent | None:
        """Return the bytes in both, or None."""
        low, high = max(self.offset, other.offset), min(self.end, other.end)
        return Extent(low, high - low) if low < high else None

    def pieces(self, length_max: int) -> Iterator[Extent]:
        """Yield the extent in order, cut into pieces of at most *length_max* bytes."""
        for offset in range(self.offset, self.end, length_max):
            yield Extent(offset, min(length_max, self.end - offset))

    def __str__(self) -> str:
        return f"{self.offset}+{self.length}"


def coalesce(extents: Iterable[Extent]) -> list[Extent]:
    """Return the bytes of *extents* (in any order, they may overlap) as the fewest extents."""
    joined: list[Extent] = []
    for extent in sorted(extents):
        if joined and extent.offset <= joined[-1].end:
            end = max(joined[-1].end, extent.end)
            joined[-1] = Extent(joined[-1].offset, end - joined[-1].offset)
        else:
            joined.append(extent)
    return joined
