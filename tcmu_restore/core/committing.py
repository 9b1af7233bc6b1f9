"""Makes written bytes and the map durable, in that order (MAP-1)."""

from __future__ import annotations

from pyroaring import BitMap64

from ..errors import RestoreError
from .effects import AllOf, CommitIntent, CommitMap, Effect, Flush, Leg, Lock
from .extent_lock import COMMIT
from .overwrite_map import MapImage
from .state import VolumeState


async def commit(state: VolumeState) -> None:
    """Return when every write that completed before the call is durable, and the map with it.

    One flush serves everyone who asked before it began (MAP-4: the host-written bits of all
    completed writes are in its image).

    Raises:
        SourceFlushError, SourceUnreachableError: the volume is diskless and its backup failed.
        StateWriteError: the map could not be committed.
    """
    asked_after = state.flushes_begun
    await Lock(COMMIT)
    if state.flushes_ended > asked_after:
        return
    await _commit_locked(state)


async def checkpoint(state: VolumeState) -> None:
    """Do as ``commit``, then disarm the zones that were idle since the last checkpoint (INT-1).

    What an idle zone changed is in the image just committed, but for regions that the backup
    could not flush: those are stale from now on, and their zones stay armed until a later image
    says so.
    """
    await Lock(COMMIT)
    idle = state.intent.sweep()
    forgotten = await _commit_locked(state)
    clean = (zone for zone in idle if forgotten.isdisjoint(_regions_of(state, zone)))
    disarmed = state.intent.forget_idle(clean)
    if disarmed:
        state.counters.intent_commits += 1
        await CommitIntent(armed=(), disarmed=disarmed)


def _regions_of(state: VolumeState, zone: int) -> BitMap64:
    return BitMap64(state.geometry.regions_of_zone(zone))


async def _commit_locked(state: VolumeState) -> BitMap64:
    """Flush and commit; return the regions that the backup has forgotten."""
    state.flushes_begun += 1
    number = state.flushes_begun
    image = state.overwrite_map.take_image()  # before the flush: MAP-1
    unflushed, state.unflushed = state.unflushed, {}
    try:
        image, forgotten = await _flush_both(state, image, unflushed)
        if image.chunks:
            state.counters.map_commits += 1
            await CommitMap(image)
    except BaseException:
        state.overwrite_map.give_back(image)
        raise
    state.counters.flushes += 1
    state.flushes_ended = number
    return forgotten


async def _flush_both(
    state: VolumeState, image: MapImage, unflushed: dict[int, BitMap64]
) -> tuple[MapImage, BitMap64]:
    """Flush both sides; return what may be committed now, and what the backup has forgotten."""
    effects: list[Effect] = [Flush(Leg.BACKUP)]
    if not state.is_diskless:
        effects.append(Flush(Leg.PRIMARY))
    results = await AllOf(tuple(effects))
    for primary in results[1:]:
        if isinstance(primary, RestoreError):
            state.fail_primary(primary)
    forgotten = _not_durable(unflushed, results[0])
    if not isinstance(results[0], RestoreError):
        state.begin_epoch(results[0])
    state.doubt_unflushed(forgotten)  # MIR-2
    if not state.is_diskless:
        return image.with_stale(forgotten), forgotten
    if isinstance(results[0], RestoreError):
        raise results[0]
    state.overwrite_map.give_back(image)  # it speaks of a primary that is gone
    return state.overwrite_map.take_image(), forgotten


def _not_durable(unflushed: dict[int, BitMap64], backup: int | RestoreError) -> BitMap64:
    """Return the regions whose backup copy the flush does not vouch for (MIR-2)."""
    regions = BitMap64()
    for epoch, written in unflushed.items():
        if isinstance(backup, RestoreError) or epoch < backup:
            regions.update(written)
    return regions
