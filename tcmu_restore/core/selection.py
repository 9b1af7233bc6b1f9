"""The selected data set: which regions the attached snapshot covers.

A region that is covered only in part is not covered: a snapshot of some extents may hold anything
outside them.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap64

from .extent import Extent, coalesce
from .geometry import Geometry


class Selection:
    """Regions that a snapshot covers: *regions*, or every one if that is None.

    A snapshot has nothing to say of any other region: not in a merge, and not to a reader (MRG-3).
    Each snapshot that is attached has an object of its own: what was read is used only if the
    selection is still the same one.
    """

    __slots__ = ("_region_count", "_regions")

    def __init__(self, region_count: int, regions: BitMap64 | None = None) -> None:
        self._region_count = region_count
        self._regions = regions

    @property
    def is_whole(self) -> bool:
        """Whether nothing was selected: the snapshot covers the volume."""
        return self._regions is None

    @property
    def count(self) -> int:
        """How many regions are covered."""
        return self._region_count if self._regions is None else len(self._regions)

    def outside(self, *kinds: BitMap64) -> int:
        """Return how many covered regions are in none of *kinds*, which are disjoint."""
        if self._regions is None:
            return self._region_count - sum(map(len, kinds))
        return len(self._regions.difference(*kinds))

    def within(self, regions: BitMap64) -> BitMap64:
        """Return those of *regions* that are covered."""
        return regions if self._regions is None else regions & self._regions

    def covers(self, regions: range) -> bool:
        """Return whether every one of *regions* is covered."""
        if self._regions is None:
            return True
        return bool(self._regions.contains_range(regions.start, regions.stop))

    def next_from(self, region: int) -> int:
        """Return the first covered region from *region* on; the number of regions if none is."""
        if self._regions is None:
            return region
        before = self._regions.rank(region - 1) if region else 0
        return self._regions[before] if before < len(self._regions) else self._region_count


def select(geometry: Geometry, extents: Iterable[Extent] | None) -> Selection:
    """Return what a snapshot of *extents* covers (in any order); None: all of the volume."""
    if extents is None:
        return Selection(geometry.region_count)
    regions = BitMap64()
    for extent in coalesce(extents):
        whole = geometry.whole_regions(extent)
        if whole:
            regions.add_range(whole.start, whole.stop)
    return Selection(geometry.region_count, regions)
