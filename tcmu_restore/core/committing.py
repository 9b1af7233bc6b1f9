"""Makes written bytes and the map durable, in that order (MAP-1)."""

from __future__ import annotations

from pyroaring import BitMap64

from ..errors import RestoreError
from .effects import AllOf, CommitIntent, CommitMap, Effect, Flush, Leg, Lock
from .extent_lock import COMMIT
from .mirroring import MirrorPolicy
from .region_sets import MapImage
from .state import VolumeState


async def commit(state: VolumeState) -> None:
    """Return when every write that completed before the call is durable, and the map with it.

    One flush serves everyone who asked before it began (MAP-4: the host-written bits of all
    completed writes are in its image).

    Raises:
        SourceFlushError, SourceUnreachableError: the backup failed, and the volume is diskless or
            its policy is strict.
        StateWriteError: the map could not be committed.
    """
    asked_after = state.flushes_begun
    await Lock(COMMIT)
    if state.flushes_ended > asked_after:
        return
    await _commit_locked(state)


async def checkpoint(state: VolumeState) -> None:
    """Do as ``commit``, then disarm the zones that the intent log offers (INT-1).

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
    try:
        image, forgotten = await _flush_both(state, image)
        if image.chunks:
            state.counters.map_commits += 1
            outdated = state.backup_only | state.overwrite_map.sets.outdated  # since the image, too
            await CommitMap(image.with_outdated(outdated), state.is_diskless)
    except BaseException:
        state.overwrite_map.commit_failed(image)
        raise
    state.counters.flushes += 1
    state.flushes_ended = number
    return forgotten


async def _flush_both(state: VolumeState, image: MapImage) -> tuple[MapImage, BitMap64]:
    """Flush both sides; return what may be committed now, and what the backup has forgotten."""
    effects: list[Effect] = [Flush(Leg.BACKUP)]
    state.backup_flushing, state.unflushed = state.unflushed, {}
    if not state.is_diskless:
        effects.append(Flush(Leg.PRIMARY))
        state.primary_flushing, state.primary_unflushed = state.primary_unflushed, BitMap64()
    results = await AllOf(tuple(effects))
    for primary in results[1:]:
        if isinstance(primary, RestoreError):
            state.fail_primary(primary)  # what it covered is not trusted again
    state.primary_flushing = BitMap64()
    forgotten = _settle_backup(state, results[0])
    if isinstance(results[0], RestoreError) and (
        state.is_diskless or state.policy is MirrorPolicy.STRICT
    ):
        raise results[0]
    if not state.is_diskless:
        return image.with_stale(forgotten), forgotten
    state.overwrite_map.commit_failed(image)  # it speaks of a primary that is gone
    return state.overwrite_map.take_image(), forgotten


def _settle_backup(state: VolumeState, backup: int | RestoreError) -> BitMap64:
    """Record what the backup's flush vouches for; return what it has forgotten (MIR-2)."""
    forgotten, durable = BitMap64(), BitMap64()
    flushing, state.backup_flushing = state.backup_flushing, {}
    for epoch, written in flushing.items():
        failed = isinstance(backup, RestoreError) or epoch < backup
        (forgotten if failed else durable).update(written)
    if not isinstance(backup, RestoreError):
        state.begin_epoch(backup)
    state.doubt_unflushed(forgotten)
    state.backup_flushed(durable)
    return forgotten
