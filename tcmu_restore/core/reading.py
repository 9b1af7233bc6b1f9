"""The read procedure."""

from __future__ import annotations

from pyroaring import BitMap64

from ..errors import LostRegionError, SourceBusyError, SourceReadError, SourceUnreachableError
from .buffer import Buffers, copy_into, slice_buffers
from .effects import AllOf, Effect, Leg, Read, Wait, first_error
from .extent import Extent
from .fetch_table import Fetch
from .fetching import check_not_outdated, start_fetches
from .gate import Gate
from .losing import lose_bad_regions, lose_bad_regions_locked
from .planning import Segment, SegmentKind, plan_read
from .state import VolumeState

ROUNDS_MAX = 8
"""Each round ends well, or finds new bad sectors, or raises; bad sectors in more rounds than
this are answered as an error."""


async def read(
    state: VolumeState,
    extent: Extent,
    buffers: Buffers,
    *,
    is_locked: bool = False,
    patience: Gate | None = None,
) -> None:
    """Fill *buffers* with *extent* as the newest completed write left it (RD-1).

    *is_locked*: the caller holds the lock on the regions of *extent*.
    *patience*: when it opens, nothing that is on its way is waited for any more.

    Raises:
        SourceBusyError: that was so; what was asked for comes meanwhile.
        SourceError: some lost part could not be fetched; see ``retryable``.
        LostRegionError: some part is outdated (LOSS-3) or the primary keeps failing.
    """
    for _ in range(ROUNDS_MAX):
        segments = plan_read(state.overwrite_map, state.geometry, extent)
        bad = await _read_segments(state, extent, buffers, segments, patience)
        if bad is None:
            return
        await (lose_bad_regions_locked if is_locked else lose_bad_regions)(state, bad)
    raise LostRegionError(extent.offset, extent.length)


async def _read_segments(
    state: VolumeState,
    extent: Extent,
    buffers: Buffers,
    segments: list[Segment],
    patience: Gate | None,
) -> Extent | None:
    """Read all segments at once; return one that the primary could not read, or None."""
    effects: list[Effect] = []
    current: list[Extent] = []
    fetches: list[tuple[Extent, Fetch]] = []
    for segment in segments:
        part = segment.extent
        if segment.kind is SegmentKind.OUTDATED:
            check_not_outdated(state, part)
        if segment.kind is SegmentKind.CURRENT:
            effects.append(Read(Leg.PRIMARY, part, _part(buffers, extent, part)))
            current.append(part)
    for segment in segments:
        if segment.kind is SegmentKind.LOST:
            fetches += await start_fetches(state, segment.extent)
    waited = [fetch.arrived for _, fetch in fetches if not fetch.arrived.is_open]
    effects += [Wait(_either(arrived, patience)) for arrived in waited]
    results = await AllOf(tuple(effects))
    _copy_fetched(state, extent, buffers, fetches)
    return _account_current(state, current, results)


def _either(arrived: Gate, patience: Gate | None) -> Gate:
    """Return a gate that opens with the first of the two."""
    if patience is None:
        return arrived
    if patience.is_open:
        return patience
    gate = Gate()
    for one in (arrived, patience):
        one.when_open(gate.open)
    return gate


def _copy_fetched(
    state: VolumeState, extent: Extent, buffers: Buffers, fetches: list[tuple[Extent, Fetch]]
) -> None:
    for part, fetch in fetches:
        if not fetch.arrived.is_open:
            raise SourceBusyError("the backup", "it is slow; what was asked for is on its way")
        if fetch.error is not None:
            raise fetch.error
        if not fetch.doubted.isdisjoint(BitMap64(state.geometry.regions(part))):
            raise SourceUnreachableError("the backup", "it was reset while it was read")
        copy_into(_part(buffers, extent, part), fetch.part(part))


def _account_current(
    state: VolumeState, current: list[Extent], results: tuple[object, ...]
) -> Extent | None:
    for part, result in zip(current, results, strict=False):
        if isinstance(result, SourceReadError):
            return part
        state.counters.reads_from_primary += 1
        state.counters.bytes_read_from_primary += part.length
    error = first_error(results)
    if error is not None:
        raise error
    return None


def _part(buffers: Buffers, whole: Extent, part: Extent) -> Buffers:
    return slice_buffers(buffers, offset=part.offset - whole.offset, length=part.length)
