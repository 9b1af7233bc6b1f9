"""The overwrite map: which regions of the primary are current, and what kind.

Six sets of region indices, as compressed bitmaps:

* ``current``: the primary holds the region's data; all others are *lost*.
* ``host_written`` (within current): newer than any snapshot, so none may fill it (MAP-4).
* ``stale`` (within current): the backup lacks the latest data (MIR-1).
* ``in_doubt`` (within lost): only the live backup may fill it, no snapshot (INT-2).
* ``outdated`` (within lost): the backup's copy is older than what was acknowledged (LOSS-3).
* ``kept`` (within lost): the failed primary holds the latest data, should it be given back.

Changes are remembered by chunk. ``take_image`` copies the changed chunks for a
commit; one that failed counts them as changed again. MAP-3: images are committed in the
order they were taken, so no commit loses a bit of an earlier one; the volume's
COMMIT lock sees to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap64

from .region_sets import CHUNK_REGIONS, MapImage, RegionSets


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

    def grow(self, region_count: int) -> None:
        """The volume has so many regions now: the new ones are lost."""
        assert region_count >= self.region_count
        new = range(self.region_count, region_count)
        assert self._sets.within(new) == RegionSets.empty()  # GROW-1: lost, and of no kind
        self.region_count = region_count

    def mark_fetched(self, regions: Iterable[int]) -> None:
        """The bytes of *regions* were populated or merged: current, and not host-written."""
        found = BitMap64(regions)
        assert found.isdisjoint(self._sets.current)  # MRG-1: never over a current region
        assert found.isdisjoint(self._sets.outdated)  # LOSS-3
        self._sets.current.update(found)
        self._sets.host_written.update(found & self._sets.in_doubt)  # newer than the snapshot
        self._sets.in_doubt.difference_update(found)
        self._sets.kept.difference_update(found)
        self._touch(found)

    def mark_host_written(self, regions: range) -> None:
        """A host's bytes of *regions* are on the primary."""
        found = BitMap64(regions)
        self._sets.current.update(found)
        self._sets.host_written.update(found)
        for kind in (self._sets.in_doubt, self._sets.outdated, self._sets.kept):
            kind.difference_update(found)
        self._touch(found)

    def mark_stale(self, regions: BitMap64) -> None:
        """The backup may lack the latest data of *regions*; lost ones are passed over."""
        found = regions & self._sets.current
        self._sets.stale.update(found)
        self._touch(found)

    def mark_perhaps_written(self, regions: BitMap64) -> None:
        """Writes to *regions* may have reached either side, or both, before an unclean stop."""
        self._sets.host_written.update(regions & self._sets.current)  # MAP-4
        self.mark_stale(regions)
        self.mark_in_doubt(regions)

    def mark_synced(self, regions: BitMap64) -> None:
        """The backup has acknowledged the latest data of *regions*."""
        self._sets.stale.difference_update(regions)
        self._touch(regions)

    def mark_in_doubt(self, regions: BitMap64) -> None:
        """The backup may have newer data of these lost regions than any snapshot."""
        found = regions - self._sets.current
        self._sets.in_doubt.update(found)
        self._touch(found)

    def mark_outdated(self, regions: BitMap64) -> None:
        """The backup's copies of these lost regions are older than what was acknowledged."""
        found = regions - self._sets.current
        self._sets.outdated.update(found)
        self._touch(found)

    def accept_outdated(self, regions: BitMap64) -> int:
        """The backup's older bytes of *regions* count from now on; return how many those are."""
        found = regions & self._sets.outdated
        self._sets.outdated.difference_update(found)
        self._sets.in_doubt.update(found)  # no snapshot: what the backup holds was looked at
        self._sets.kept.difference_update(found)
        self._touch(found)
        return len(found)

    def mark_all_certain(self) -> None:
        """A snapshot taken from now on holds everything that the backup holds."""
        found = self._sets.in_doubt.copy()
        self._sets.in_doubt.clear()
        self._touch(found)

    def mark_backup_newest(self, regions: BitMap64) -> None:
        """The backup took a whole write to these lost regions: they are not outdated any more."""
        found = regions - self._sets.current
        self._sets.outdated.difference_update(found)
        self._touch(found)

    def keep(self, regions: BitMap64) -> None:
        """The failed primary holds the latest data of these lost regions."""
        self._sets.kept.update(regions - self._sets.current)
        self._touch(regions)

    def forget_kept(self, regions: BitMap64) -> None:
        """Whatever the failed primary holds of *regions*, it is not to be used any more."""
        found = regions & self._sets.kept
        self._sets.kept.difference_update(found)
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

    def take_adoption_image(self, *, same_disk: bool) -> MapImage:
        """Return an image as if a primary were attached already: the failed one, or another."""
        self._touch(self._sets.kept)
        image = self.take_image()
        for sets in image.chunks.values():
            if same_disk:
                sets.restore_kept()
            else:
                sets.kept.clear()
        return image

    def restore_kept(self) -> None:
        """The failed primary was given back: what it keeps is current again."""
        self._touch(self._sets.kept)
        self._sets.restore_kept()

    def touch(self, regions: BitMap64) -> None:
        """Count the chunks of *regions* as changed."""
        self._touch(regions)

    def commit_failed(self, image: MapImage) -> None:
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
