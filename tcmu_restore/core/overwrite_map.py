"""The overwrite map: which regions of the primary are current, and what kind.

Five sets of region indices, as compressed bitmaps:

* ``current``: the primary holds the region's data; all others are *lost*.
* ``host_written`` (within current): a host wrote it, so no snapshot may (MAP-4).
* ``stale`` (within current): the backup lacks the latest data (MIR-1).
* ``in_doubt`` (within lost): only the live backup may fill it, no snapshot (INT-2).
* ``outdated`` (within lost): the backup's copy is older than what was acknowledged (LOSS-3).

Changes are remembered by chunk. ``take_image`` copies the changed chunks for a
commit; a commit that fails gives them back. MAP-3: images are committed in the
order they were taken, so no commit loses a bit of an earlier one; the volume's
COMMIT lock sees to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

from pyroaring import BitMap64

CHUNK_REGIONS = 1 << 16
"""Regions a chunk: the grain in which the map is stored. A roaring container has as many bits,
so a chunk takes 8 KiB at most and usually a few dozen bytes."""


@dataclass(frozen=True, slots=True)
class RegionSets:
    """The five sets; indices of regions of the whole volume."""

    current: BitMap64
    host_written: BitMap64
    stale: BitMap64
    in_doubt: BitMap64
    outdated: BitMap64

    @classmethod
    def empty(cls) -> RegionSets:
        """Return five new empty sets."""
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
        if not (self.in_doubt.isdisjoint(self.current) and self.outdated.isdisjoint(self.current)):
            return "a current region is in doubt or outdated"
        return None


@dataclass(frozen=True, slots=True)
class MapImage:
    """What one commit writes: the changed chunks, whole, as they were at one moment."""

    chunks: dict[int, RegionSets]

    def with_stale(self, regions: BitMap64) -> MapImage:
        """Return the image with those of *regions* that it calls current marked stale as well."""
        return MapImage(
            {
                index: replace(sets, stale=sets.stale | (regions & sets.current))
                for index, sets in self.chunks.items()
            }
        )


class OverwriteMap:
    """The map in memory. MAP-2: callers mark a region current only after its bytes are written."""

    def __init__(self, region_count: int, sets: RegionSets | None = None) -> None:
        self.region_count = region_count
        self._sets = sets or RegionSets.empty()
        self._changed: set[int] = set()
        assert self._sets.problem() is None

    @property
    def sets(self) -> RegionSets:
        """The live sets, for reading only."""
        return self._sets

    # --- questions --------------------------------------------------------------------

    def is_current(self, regions: range) -> bool:
        """Return whether every one of *regions* is current."""
        return bool(self._sets.current.contains_range(regions.start, regions.stop))

    def count_current(self, regions: range) -> int:
        """Return how many of *regions* are current."""
        return int(self._sets.current.range_cardinality(regions.start, regions.stop))

    @property
    def lost_count(self) -> int:
        """How many regions of the volume are lost."""
        return self.region_count - len(self._sets.current)

    def lost_in(self, regions: range) -> BitMap64:
        """Return those of *regions* that are lost, outdated ones included."""
        return BitMap64(regions) - self._sets.current

    def fillable_in(self, regions: range) -> BitMap64:
        """Return those of *regions* that are lost and that some source may fill (LOSS-3)."""
        return self.lost_in(regions) - self._sets.outdated

    # --- changes ----------------------------------------------------------------------

    def mark_fetched(self, regions: Iterable[int]) -> None:
        """The bytes of *regions* were populated or merged: current, and not host-written."""
        found = BitMap64(regions)
        assert found.isdisjoint(self._sets.current)  # MRG-1: never over a current region
        assert found.isdisjoint(self._sets.outdated)  # LOSS-3
        self._sets.current.update(found)
        self._sets.in_doubt.difference_update(found)
        self._touch(found)

    def mark_host_written(self, regions: range) -> None:
        """A host's bytes of *regions* are on the primary."""
        found = BitMap64(regions)
        self._sets.current.update(found)
        self._sets.host_written.update(found)
        self._sets.in_doubt.difference_update(found)
        self._sets.outdated.difference_update(found)
        self._touch(found)

    def mark_stale(self, regions: BitMap64) -> None:
        """The backup may lack the latest data of *regions*; lost ones are passed over."""
        found = regions & self._sets.current
        self._sets.stale.update(found)
        self._touch(found)

    def mark_synced(self, regions: BitMap64) -> None:
        """The backup has acknowledged the latest data of *regions*."""
        self._sets.stale.difference_update(regions)
        self._touch(regions)

    def mark_in_doubt(self, regions: BitMap64) -> None:
        """The backup may have newer data of these lost regions than any snapshot."""
        found = regions - self._sets.current
        self._sets.in_doubt.update(found)
        self._touch(found)

    def mark_backup_newest(self, regions: BitMap64) -> None:
        """The backup took a whole write to these lost regions: they are not outdated any more."""
        found = regions - self._sets.current
        self._sets.outdated.difference_update(found)
        self._touch(found)

    def mark_lost(self, regions: BitMap64) -> None:
        """The primary lost them: host-written ones come to be in doubt, stale ones outdated."""
        found = regions & self._sets.current
        self._sets.in_doubt.update(found & self._sets.host_written)
        self._sets.outdated.update(found & self._sets.stale)
        for kind in (self._sets.current, self._sets.host_written, self._sets.stale):
            kind.difference_update(found)
        self._touch(found)

    # --- commits ----------------------------------------------------------------------

    def take_image(self) -> MapImage:
        """Return copies of the chunks changed since the last image, and count them as committed."""
        changed, self._changed = self._changed, set()
        return MapImage({index: self._sets.within(self._chunk(index)) for index in sorted(changed)})

    def give_back(self, image: MapImage) -> None:
        """Count the chunks of *image* as changed again: its commit did not happen."""
        self._changed.update(image.chunks)

    @property
    def has_uncommitted(self) -> bool:
        """Whether anything changed since the last image was taken."""
        return bool(self._changed)

    def _chunk(self, index: int) -> range:
        start = index * CHUNK_REGIONS
        return range(start, min(start + CHUNK_REGIONS, self.region_count))

    def _touch(self, regions: BitMap64) -> None:
        if not regions:
            return
        first, last = regions.min() // CHUNK_REGIONS, regions.max() // CHUNK_REGIONS
        if first == last:
            self._changed.add(first)
            return
        self._changed.update(
            index
            for index in range(first, last + 1)
            if regions.range_cardinality(index * CHUNK_REGIONS, (index + 1) * CHUNK_REGIONS)
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
