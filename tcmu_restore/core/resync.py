"""Copies stale regions, primary to backup, when the backup is back."""

from __future__ import annotations

from pyroaring import BitMap64

from ..errors import SourceReadError
from .buffer import buffers_of
from .effects import Leg, Lock, Read, Write
from .extent import Extent
from .region_sets import runs_of
from .state import VolumeState


def plan_resync_step(state: VolumeState, cursor: int, length_max: int) -> Extent | None:
    """Return the first run of stale regions from region *cursor* on, or None.

    It is at most *length_max* bytes long, but one region at least.
    """
    stale = state.overwrite_map.sets.stale
    rank = stale.rank(cursor - 1) if cursor else 0
    if rank == len(stale):
        return None
    first = stale[rank]
    count = max(1, length_max // state.geometry.region_size)
    run = next(runs_of(stale & BitMap64(range(first, first + count))))
    return state.geometry.extent_of(run)


async def resync_step(state: VolumeState, extent: Extent) -> None:
    """Copy what is stale of *extent* to the backup, under its lock.

    Raises:
        SourceError: nothing was marked; ``retryable`` says whether trying again may help.
    """
    await Lock(extent)
    stale = state.overwrite_map.sets.stale & BitMap64(state.geometry.regions(extent))
    for run in runs_of(stale):
        await _copy_primary_to_backup(state, run)


async def _copy_primary_to_backup(state: VolumeState, run: range) -> None:
    extent = state.geometry.extent_of(run)
    buffers = buffers_of(bytearray(extent.length))
    regions = BitMap64(run)
    try:
        await Read(Leg.PRIMARY, extent, buffers)
    except SourceReadError:
        if len(run) == 1:
            state.lose(regions)  # a stale region that cannot be read is outdated (LOSS-3)
            return
        for region in run:
            await _copy_primary_to_backup(state, range(region, region + 1))
        return
    epoch = await Write(Leg.BACKUP, extent, buffers)
    state.overwrite_map.mark_synced(regions)
    state.note_backup_newest(regions, epoch)  # where the primary was lost meanwhile
    state.note_unflushed(regions, epoch)  # stale again if the backup forgets them (MIR-2)
    state.counters.regions_resynced += len(regions)
