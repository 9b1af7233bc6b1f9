"""The procedures that change bytes: write, zero, write-same, compare-and-write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from pyroaring import BitMap64

from ..errors import LostRegionError, MiscompareError, RestoreError
from .buffer import Buffers, buffers_of, first_difference, slice_buffers, total_length
from .committing import commit
from .effects import AllOf, CommitIntent, Effect, Leg, Lock, Write, Zero
from .extent import Extent
from .fetching import read_lost
from .reading import read
from .state import VolumeState

REPEAT_LENGTH_MAX = 1 << 20
"""WRITE SAME is expanded in pieces of this many bytes."""


async def write(state: VolumeState, extent: Extent, buffers: Buffers, *, fua: bool) -> None:
    """Write *buffers* to both sides; with *fua*, return only when the bytes are durable.

    Raises:
        SourceError: retryable: nothing was promised; a lost edge could not be fetched, or no side
            took the bytes.
        StateWriteError: the zone could not be armed; nothing was written (INT-1).
    """
    assert total_length(buffers) == extent.length
    await Lock(state.geometry.align_out(extent))
    await _armed(state, extent, partial(_write_both, state, extent, buffers))
    if fua:
        await commit(state)


async def zero(state: VolumeState, extent: Extent, *, fua: bool) -> None:
    """Make *extent* read as zeros on both sides; its regions become current (ZERO-1)."""
    await Lock(state.geometry.align_out(extent))
    await _armed(state, extent, partial(_zero_both, state, extent))
    if fua:
        await commit(state)


async def write_same(state: VolumeState, extent: Extent, block: Buffers, *, fua: bool) -> None:
    """Repeat *block* over *extent*, a multiple of its length (SBC-4 WRITE SAME)."""
    pattern = b"".join(block)
    if not any(pattern):
        await zero(state, extent, fua=fua)
        return
    repeated = pattern * max(1, min(extent.length, REPEAT_LENGTH_MAX) // len(pattern))
    await Lock(state.geometry.align_out(extent))
    for piece in extent.pieces(len(repeated)):
        payload = buffers_of(memoryview(repeated)[: piece.length])
        await _armed(state, piece, partial(_write_both, state, piece, payload))
    if fua:
        await commit(state)


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
    await read(state, extent, found)
    expected = slice_buffers(buffers, offset=0, length=extent.length)
    difference = first_difference(found, expected)
    if difference is not None:
        raise MiscompareError(difference)
    payload = slice_buffers(buffers, offset=extent.length, length=extent.length)
    await _armed(state, extent, partial(_write_both, state, extent, payload))
    if fua:
        await commit(state)


async def _armed(
    state: VolumeState, extent: Extent, procedure: Callable[[], Awaitable[None]]
) -> None:
    """Run *procedure* with the zones of *extent* armed (INT-1)."""
    zones = state.geometry.zones(extent)
    unarmed = state.intent.begin_write(zones)
    try:
        if unarmed:
            state.counters.intent_commits += 1
            await CommitIntent(armed=unarmed, disarmed=())
            state.intent.mark_armed(unarmed)
        assert state.intent.is_armed(zones)  # INT-1
        state.fetches.spoil(extent)
        await procedure()
    finally:
        state.fetches.spoil(extent)
        state.intent.end_write(zones)


async def _write_both(state: VolumeState, extent: Extent, buffers: Buffers) -> None:
    epoch = state.backup_epoch
    whole, composed = await _with_edges(state, extent, buffers)
    effects: list[Effect] = [Write(Leg.BACKUP, extent, buffers)]
    if not state.is_diskless:
        effects.append(Write(Leg.PRIMARY, whole, composed))
    await _perform(state, extent, effects)
    if whole != extent and epoch != state.backup_epoch:  # the edges may be forgotten there (MIR-2)
        state.overwrite_map.mark_stale(BitMap64(state.geometry.regions(extent)))


async def _zero_both(state: VolumeState, extent: Extent) -> None:
    """Zero whole regions; the partial ones at the edges are written as zeros."""
    geometry = state.geometry
    inner = geometry.whole_regions(extent)
    if not inner:
        await _write_both(state, extent, buffers_of(bytes(extent.length)))
        return
    middle = geometry.extent_of(inner)
    for edge in _outside(extent, middle):
        await _write_both(state, edge, buffers_of(bytes(edge.length)))
    effects: list[Effect] = [Zero(Leg.BACKUP, middle)]
    if not state.is_diskless:
        effects.append(Zero(Leg.PRIMARY, middle))
    await _perform(state, middle, effects)


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
    if not covered_in_part.isdisjoint(overwrite_map.sets.outdated):
        raise LostRegionError(extent.offset, extent.length)
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
    memory = bytearray(whole.length)
    await read_lost(state, whole, buffers_of(memory))
    return buffers_of(memoryview(memory)[start - whole.offset : end - whole.offset])


async def _perform(state: VolumeState, extent: Extent, effects: list[Effect]) -> None:
    """Change both sides (the backup stands first), then record what each of them now has."""
    results = await AllOf(tuple(effects))
    for primary in results[1:]:
        if isinstance(primary, RestoreError):
            state.fail_primary(primary)
    if state.is_diskless:
        _settle_backup_only(state, extent, results[0])
    else:
        _settle_primary(state, extent, results[0])


def _settle_primary(state: VolumeState, extent: Extent, backup: int | RestoreError) -> None:
    geometry, overwrite_map = state.geometry, state.overwrite_map
    regions = geometry.regions(extent)
    overwrite_map.mark_host_written(regions)  # MAP-2: after the write
    state.counters.regions_host_written += len(regions)
    state.counters.bytes_written += extent.length
    if isinstance(backup, RestoreError):
        overwrite_map.mark_stale(BitMap64(regions))  # MIR-1: acknowledged, on one side only
        return
    overwrite_map.mark_synced(BitMap64(geometry.whole_regions(extent)))
    state.note_unflushed(BitMap64(regions), backup)


def _settle_backup_only(state: VolumeState, extent: Extent, backup: int | RestoreError) -> None:
    """Diskless (LOSS-2): the write stands if the backup took it; no snapshot may hide it."""
    regions = BitMap64(state.geometry.regions(extent))
    state.overwrite_map.mark_in_doubt(regions)
    if isinstance(backup, RestoreError):
        raise backup
    state.overwrite_map.mark_backup_newest(BitMap64(state.geometry.whole_regions(extent)))
    state.counters.bytes_written += extent.length
    state.note_unflushed(regions, backup)
