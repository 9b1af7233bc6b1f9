"""Sets of regions as they are kept in memory and as a commit writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from pyroaring import BitMap64

CHUNK_REGIONS = 1 << 16
"""Regions a chunk: the grain in which the map is stored. A roaring container has as many bits,
so a chunk takes 8 KiB at most and usually a few dozen bytes."""


@dataclass(frozen=True, slots=True)
class RegionSets:
    """The six sets; indices of regions of the whole volume."""

    current: BitMap64
    host_written: BitMap64
    stale: BitMap64
    in_doubt: BitMap64
    outdated: BitMap64
    kept: BitMap64

    @classmethod
    def empty(cls) -> RegionSets:
        """Return six new empty sets."""
        return cls(*(BitMap64() for _ in fields(cls)))

    def within(self, regions: range) -> RegionSets:
        """Return copies that hold only *regions*."""
        window = BitMap64(regions)
        return RegionSets(*(getattr(self, item.name) & window for item in fields(self)))

    def problem(self) -> str | None:
        """Return what is inconsistent, or None. For sets that were read from disk."""
        if not self.host_written.issubset(self.current):
            return "a host-written region is not current"
        if not self.stale.issubset(self.current):
            return "a stale region is not current"
        for kind, words in (
            (self.in_doubt, "in doubt"),
            (self.outdated, "outdated"),
            (self.kept, "kept"),
        ):
            if not kind.isdisjoint(self.current):
                return f"a current region is {words}"
        return None

    def restore_kept(self) -> None:
        """The failed primary is there again: what it keeps is current, and what is outdated on the
        backup is stale. No snapshot may fill any of it."""
        self.stale.update(self.kept & self.outdated)
        self.current.update(self.kept)
        self.host_written.update(self.kept)
        self.in_doubt.difference_update(self.kept)
        self.outdated.difference_update(self.kept)
        self.kept.clear()


@dataclass(frozen=True, slots=True)
class MapImage:
    """What one commit writes: the changed chunks, whole, as they were at one moment."""

    chunks: dict[int, RegionSets]

    def with_outdated(self, regions: BitMap64) -> MapImage:
        """Return the image with those of *regions* that it calls lost outdated as well."""
        chunks = {}
        for index, sets in self.chunks.items():
            window = BitMap64(range(index * CHUNK_REGIONS, (index + 1) * CHUNK_REGIONS))
            lost = (regions & window) - sets.current
            chunks[index] = replace(sets, outdated=sets.outdated | lost)
        return MapImage(chunks)

    def with_stale(self, regions: BitMap64) -> MapImage:
        """Return the image with those of *regions* that it calls current marked stale as well."""
        return MapImage(
            {
                index: replace(sets, stale=sets.stale | (regions & sets.current))
                for index, sets in self.chunks.items()
            }
        )


def runs_of(regions: BitMap64) -> Iterator[range]:
    """Yield *regions* in ascending order as runs without gaps."""
    start = stop = -1
    for region in regions:
        if region == stop:
            stop += 1
            continue
        if start >= 0:
            yield range(start, stop)
        start, stop = region, region + 1
    if start >= 0:
        yield range(start, stop)
