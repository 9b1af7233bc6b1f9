"""The procedures that change bytes: write, zero, write-same, compare-and-write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from pyroaring import BitMap64

from ..errors import MiscompareError, RestoreError, SourceUnreachableError
from .buffer import Buffers, buffers_of, first_difference, slice_buffers, total_length
from .committing import commit
from .effects import AllOf, CommitIntent, Effect, Leg, Lock, Write, Zero
from .extent import Extent
from .fetching import check_not_outdated, read_lost
from .mirroring import MirrorPolicy
from .reading import read
from .state import VolumeState

REPEAT_LENGTH_MAX = 1 << 20
"""WRITE SAME is expanded in pieces of this many bytes."""

MIRRORED = 1 << 62
"""In place of an epoch of the backup: the primary has the bytes, the epoch does not matter."""


async def write(state: VolumeState, extent: Extent, buffers: Buffers, *, fua: bool) -> None:
    """Write *buffers* to both sides; with *fua*, return only when the bytes are durable.

    Raises:
        SourceError: retryable: nothing was promised; a lost edge could not be fetched, or no side
            took the bytes.
        StateWriteError: the zone could not be armed; nothing was written (INT-1).
    """
    assert total_length(buffers) == extent.length
    await Lock(state.geometry.align_out(extent))
    epoch = await _armed(state, extent, partial(_write_both, state, extent, buffers))
    await _finish(state, epoch, fua=fua)


async def zero(state: VolumeState, extent: Extent, *, fua: bool) -> None:
    """Make *extent* read as zeros on both sides; its regions become current (ZERO-1)."""
    await Lock(state.geometry.align_out(extent))
    epoch = await _armed(state, extent, partial(_zero_both, state, extent))
    await _finish(state, epoch, fua=fua)


async def write_same(state: VolumeState, extent: Extent, block: Buffers, *, fua: bool) -> None:
    """Repeat *block* over *extent*, a multiple of its length (SBC-4 WRITE SAME)."""
    pattern = b"".join(block)
    if not any(pattern):
        await zero(state, extent, fua=fua)
        return
    repeated = pattern * max(1, min(extent.length, REPEAT_LENGTH_MAX) // len(pattern))
    await Lock(state.geometry.align_out(extent))
    epoch = MIRRORED
    for piece in extent.pieces(len(repeated)):
        payload = buffers_of(memoryview(repeated)[: piece.length])
        written = await _armed(state, piece, partial(_write_both, state, piece, payload))
        epoch = min(epoch, written)
    await _finish(state, epoch, fua=fua)


async def compare_and_write(
    state: VolumeState, extent: Extent, buffers: Buffers, *, fua: bool
) -> None:
    """Write the second half of *buffers* if *extent* holds the first half (SBC-4 5.3).

    Raises:
        MiscompareError: it does not; nothing was written.
    """
    assert total_length(buffers) == 2 * extent.length
    await Lock(state.geometry.align_out(extent))
    found = buffers_of(bytearray(extent.length))
    await read(state, extent, found, is_locked=True)
    expected = slice_buffers(buffers, offset=0, length=extent.length)
    difference = first_difference(found, expected)
    if difference is not None:
        raise MiscompareError(difference)
    payload = slice_buffers(buffers, offset=extent.length, length=extent.length)
    epoch = await _armed(state, extent, partial(_write_both, state, extent, payload))
    await _finish(state, epoch, fua=fua)


async def _finish(state: VolumeState, epoch: int, *, fua: bool) -> None:
    """Make the write durable if the host asked for it, or if only the backup has it.

    Diskless: neither a volatile cache of the backup nor an uncommitted loss of the primary may
    stand between an acknowledged write and its only copy (LOSS-2). *epoch* is the one in which
    the backup took it; a flush in a later one does not vouch for it.
    """
    if fua or state.is_diskless:
        await commit(state)
    if epoch < state.backup_epoch and state.is_diskless:
        raise SourceUnreachableError("the backup", "it may have forgotten the write")


async def _armed(
    state: VolumeState, extent: Extent, procedure: Callable[[], Awaitable[int]]
) -> int:
    """Run *procedure* with the zones of *extent* armed (INT-1); return its epoch."""
    zones = state.geometry.zones(extent)
    unarmed = state.intent.begin_write(zones)
    try:
        if unarmed:
            state.counters.intent_commits += 1
            await CommitIntent(armed=unarmed, disarmed=())
            state.intent.mark_armed(unarmed)
        assert state.intent.is_armed(zones)  # INT-1
        state.fetches.spoil(extent)
        return await procedure()
    finally:
        state.fetches.spoil(extent)
        state.intent.end_write(zones)


async def _write_both(state: VolumeState, extent: Extent, buffers: Buffers) -> int:
    epoch = state.backup_epoch
    whole, composed = await _with_edges(state, extent, buffers)
    written = await _perform(
        state, extent, Write(Leg.BACKUP, extent, buffers), Write(Leg.PRIMARY, whole, composed)
    )
    if whole != extent and epoch != state.backup_epoch:  # the edges may be forgotten there (MIR-2)
        state.overwrite_map.mark_stale(BitMap64(state.geometry.regions(extent)))
    return written


async def _zero_both(state: VolumeState, extent: Extent) -> int:
    """Zero whole regions; the partial ones at the edges are written as zeros."""
    geometry = state.geometry
    inner = geometry.whole_regions(extent)
    if not inner:
        return await _write_both(state, extent, buffers_of(bytes(extent.length)))
    middle = geometry.extent_of(inner)
    epoch = MIRRORED
    for edge in _outside(extent, middle):
        epoch = min(epoch, await _write_both(state, edge, buffers_of(bytes(edge.length))))
    zeroed = await _perform(state, middle, Zero(Leg.BACKUP, middle), Zero(Leg.PRIMARY, middle))
    return min(epoch, zeroed)


def _outside(extent: Extent, middle: Extent) -> list[Extent]:
    edges = []
    if extent.offset < middle.offset:
        edges.append(Extent(extent.offset, middle.offset - extent.offset))
    if middle.end < extent.end:
        edges.append(Extent(middle.end, extent.end - middle.end))
    return edges


async def _with_edges(
    state: VolumeState, extent: Extent, buffers: Buffers
) -> tuple[Extent, Buffers]:
    """Complete *buffers* to whole regions where a region covered in part is lost.

    Raises:
        LostRegionError: a region covered in part is outdated; nobody has the rest (LOSS-3).
    """
    geometry, overwrite_map = state.geometry, state.overwrite_map
    regions = geometry.regions(extent)
    covered_in_part = BitMap64(regions) - BitMap64(geometry.whole_regions(extent))
    covered_in_part &= overwrite_map.lost_in(regions)
    if state.is_diskless or not covered_in_part:
        return extent, buffers
    before: Buffers = ()
    after: Buffers = ()
    whole = geometry.align_out(extent)
    if regions.start in covered_in_part and whole.offset < extent.offset:
        before = await _fetch_part(state, regions.start, whole.offset, extent.offset)
    if regions[-1] in covered_in_part and extent.end < whole.end:
        after = await _fetch_part(state, regions[-1], extent.end, whole.end)
    start = extent.offset - total_length(before)
    end = extent.end + total_length(after)
    return Extent(start, end - start), before + buffers + after


async def _fetch_part(state: VolumeState, region: int, start: int, end: int) -> Buffers:
    whole = state.geometry.extent_of(range(region, region + 1))
    check_not_outdated(state, whole)
    memory = bytearray(whole.length)
    await read_lost(state, whole, buffers_of(memory))
    check_not_outdated(state, whole)
    return buffers_of(memoryview(memory)[start - whole.offset : end - whole.offset])


async def _perform(
    state: VolumeState, extent: Extent, to_backup: Write | Zero, to_primary: Write | Zero
) -> int:
    """Change both sides and record what each of them now has; return the backup's epoch if only
    the backup has it, else MIRRORED."""
    regions = BitMap64(state.geometry.regions(extent))
    later = state.mirrors_later
    effects: list[Effect] = [] if later else [to_backup]
    if not state.is_diskless:
        effects.append(to_primary)
        state.primary_write_began(regions)
    else:
        state.overwrite_map.forget_kept(regions)
    results = await AllOf(tuple(effects))
    if to_primary in effects:
        if isinstance(results[-1], RestoreError):
            state.fail_primary(results[-1])
        state.primary_write_ended(regions)
    if later and state.is_diskless:
        later, results = False, await AllOf((to_backup,))
    if state.is_diskless:
        return _settle_backup_only(state, extent, results[0])
    _settle_primary(state, extent, None if later else results[0])
    return MIRRORED


def _settle_primary(state: VolumeState, extent: Extent, backup: int | RestoreError | None) -> None:
    """Record a write that the primary took. *backup*: its answer, or None if it was not sent."""
    geometry, overwrite_map = state.geometry, state.overwrite_map
    regions = BitMap64(geometry.regions(extent))
    overwrite_map.mark_host_written(geometry.regions(extent))  # MAP-2: after the write
    if not isinstance(backup, int):
        overwrite_map.mark_stale(regions)  # MIR-1: on one side only
        if isinstance(backup, RestoreError) and state.policy is MirrorPolicy.STRICT:
            raise backup
    else:
        overwrite_map.mark_synced(BitMap64(geometry.whole_regions(extent)))
        state.note_unflushed(regions, backup)
    state.counters.regions_host_written += len(regions)
    state.counters.bytes_written += extent.length


def _settle_backup_only(state: VolumeState, extent: Extent, backup: int | RestoreError) -> int:
    """Diskless (LOSS-2): the write stands if the backup took it; no snapshot may hide it."""
    regions = BitMap64(state.geometry.regions(extent))
    state.overwrite_map.mark_in_doubt(regions)
    if isinstance(backup, RestoreError):
        state.note_unflushed(regions, state.backup_epoch)  # part of it may be in its cache
        raise backup
    state.note_backup_newest(BitMap64(state.geometry.whole_regions(extent)), backup)
    state.counters.bytes_written += extent.length
    state.note_unflushed(regions, backup)
    return backup
