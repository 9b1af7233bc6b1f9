"""Loss, from one sector to the whole disk, and what an admin decides about it (LOSS-1, LOSS-3)."""

from __future__ import annotations

from pyroaring import BitMap64

from ..errors import SourceReadError
from .committing import commit
from .effects import AllOf, Leg, Lock, Read, Spawn, Wait
from .extent import Extent
from .gate import Gate
from .state import VolumeState


async def lose_bad_regions(state: VolumeState, extent: Extent) -> None:
    """Find which regions of *extent* the primary cannot read, and make exactly those lost (LOSS-1).

    Under a lock, a write that mends a sector meanwhile must not be undone; in a procedure of its
    own, so that a reader holds no lock while it waits for another one.
    """
    ended = Gate()
    await Spawn(_lock_and_lose(state, extent, ended))
    if not ended.is_open:
        await Wait(ended)


async def _lock_and_lose(state: VolumeState, extent: Extent, ended: Gate) -> None:
    try:
        await Lock(state.geometry.align_out(extent))
        await lose_bad_regions_locked(state, extent)
    finally:
        ended.open()


async def lose_bad_regions_locked(state: VolumeState, extent: Extent) -> None:
    """Do as ``lose_bad_regions``; the caller holds the lock on the regions of *extent*."""
    current = state.overwrite_map.sets.current
    regions = [region for region in state.geometry.regions(extent) if region in current]
    results = await AllOf(tuple(_probe(state, region) for region in regions))
    bad = BitMap64(
        region
        for region, result in zip(regions, results, strict=True)
        if isinstance(result, SourceReadError)
    )
    state.lose(bad)
    state.counters.regions_repaired += len(bad)


def _probe(state: VolumeState, region: int) -> Read:
    extent = state.geometry.extent_of(range(region, region + 1))
    return Read(Leg.PRIMARY, extent, (memoryview(bytearray(extent.length)),))


async def declare_lost(state: VolumeState, extent: Extent) -> None:
    """The admin says that the primary's copy of *extent* is gone; durable on return.

    Whole regions: an extent that touches one takes all of it. Stale regions become outdated.

    Raises:
        StateWriteError, SourceUnreachableError: it holds in memory, but is not durable yet.
    """
    await Lock(state.geometry.align_out(extent))
    regions = BitMap64(state.geometry.regions(extent))
    state.lose(regions)
    state.overwrite_map.forget_kept(regions)
    await commit(state)


async def accept_outdated(state: VolumeState, extent: Extent) -> None:
    """The admin gives up the newest writes to outdated regions: the backup's bytes count (LOSS-3).

    Raises:
        StateWriteError, SourceUnreachableError: it holds in memory, but is not durable yet.
    """
    await Lock(state.geometry.align_out(extent))
    state.overwrite_map.accept_outdated(BitMap64(state.geometry.regions(extent)))
    await commit(state)
