"""Compares the primary with the backup, region by region, while hosts go on."""

from __future__ import annotations

from enum import Enum

from pyroaring import BitMap64

from ..errors import RestoreError, SourceReadError
from .buffer import buffers_of
from .effects import AllOf, Leg, Lock, Read
from .extent import Extent
from .losing import lose_bad_regions_locked
from .region_sets import runs_of
from .state import VolumeState


class Repair(Enum):
    """What is done about a region that differs."""

    NONE = "none"
    """It is reported only."""

    PRIMARY = "primary"
    """The primary is right: the region is stale, and resync sends it."""

    BACKUP = "backup"
    """The backup is right: the primary's copy is lost, and is fetched again."""


def plan_verify_step(state: VolumeState, cursor: int, length_max: int) -> Extent | None:
    """Return the first run of regions from *cursor* on that both sides must hold alike, or None.

    It is at most *length_max* bytes long, but one region at least. Lost and stale regions are
    passed over: there is nothing to compare.
    """
    comparable = state.overwrite_map.sets.current - state.overwrite_map.sets.stale
    rank = comparable.rank(cursor - 1) if cursor else 0
    if rank == len(comparable):
        return None
    first = comparable[rank]
    count = max(1, length_max // state.geometry.region_size)
    run = next(runs_of(comparable & BitMap64(range(first, first + count))))
    return state.geometry.extent_of(run)


async def verify_step(
    state: VolumeState, extent: Extent, repair: Repair, differing: BitMap64
) -> None:
    """Compare what both sides must hold alike of *extent*, under its lock; mend what differs.

    Adds the regions that differ to *differing*. What the primary cannot read is lost (LOSS-1).

    Raises:
        SourceError: the backup could not be read; ``retryable`` says whether to try again.
    """
    await Lock(extent)
    sets = state.overwrite_map.sets
    for run in runs_of((sets.current - sets.stale) & BitMap64(state.geometry.regions(extent))):
        found = await _compare(state, run)
        found &= sets.current - sets.stale  # the backup may have been reset meanwhile
        differing.update(found)
        _mend(state, found, repair)


async def _compare(state: VolumeState, run: range) -> BitMap64:
    """Return the regions of *run* that differ."""
    extent = state.geometry.extent_of(run)
    ours, theirs = bytearray(extent.length), bytearray(extent.length)
    primary, backup = await AllOf(
        (
            Read(Leg.PRIMARY, extent, buffers_of(ours)),
            Read(Leg.BACKUP, extent, buffers_of(theirs)),
        )
    )
    if isinstance(backup, RestoreError):
        raise backup
    if isinstance(primary, SourceReadError):
        await lose_bad_regions_locked(state, extent)
        return BitMap64()
    if isinstance(primary, RestoreError):
        raise primary
    state.counters.regions_verified += len(run)
    if ours == theirs:
        return BitMap64()
    size = state.geometry.region_size
    starts = range(0, extent.length, size)
    return BitMap64(
        region
        for region, at in zip(run, starts, strict=True)
        if ours[at : at + size] != theirs[at : at + size]
    )


def _mend(state: VolumeState, regions: BitMap64, repair: Repair) -> None:
    state.counters.regions_differing += len(regions)
    if repair is Repair.PRIMARY:
        state.overwrite_map.mark_stale(regions)
    elif repair is Repair.BACKUP:
        state.lose(regions)
        state.overwrite_map.forget_kept(regions)
