"""Copies stale regions, primary to backup, when the backup is back."""

from __future__ import annotations

from pyroaring import BitMap64

from ..errors import SourceReadError
from .buffer import buffers_of
from .effects import Leg, Lock, Read, Write
from .extent import Extent
from .overwrite_map import runs_of
from .state import VolumeState


def plan_resync_step(state: VolumeState, length_max: int) -> Extent | None:
    """Return the first run of stale regions, at most *length_max* bytes, or None."""
    stale = state.overwrite_map.sets.stale
    if not stale:
        return None
    run = next(
        runs_of(stale & BitMap64(range(stale.min(), stale.min() + _count(state, length_max))))
    )
    return state.geometry.extent_of(run)


def _count(state: VolumeState, length_max: int) -> int:
    return max(1, length_max // state.geometry.region_size)


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
    state.note_unflushed(regions, epoch)  # stale again if the backup forgets them (MIR-2)
    state.counters.regions_resynced += len(regions)
