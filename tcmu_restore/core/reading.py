"""The read procedure."""

from __future__ import annotations

from pyroaring import BitMap64

from ..errors import LostRegionError, SourceReadError
from .buffer import Buffers, copy_into, slice_buffers
from .effects import AllOf, Effect, Leg, Lock, Read, Wait, first_error
from .extent import Extent
from .fetch_table import Fetch
from .fetching import start_fetches
from .planning import Segment, SegmentKind, plan_read
from .state import VolumeState

ROUNDS_MAX = 8
"""Each round ends well, or finds new bad sectors, or raises; bad sectors in more rounds than
this are answered as an error."""


async def read(state: VolumeState, extent: Extent, buffers: Buffers) -> None:
    """Fill *buffers* with *extent* as the newest completed write left it (RD-1).

    Raises:
        SourceError: some lost part could not be fetched; see ``retryable``.
        LostRegionError: some part is outdated (LOSS-3) or the primary keeps failing.
    """
    for _ in range(ROUNDS_MAX):
        segments = plan_read(state.overwrite_map, state.geometry, extent)
        bad = await _read_segments(state, extent, buffers, segments)
        if bad is None:
            return
        await lose_bad_regions(state, bad)
    raise LostRegionError(extent.offset, extent.length)


async def _read_segments(
    state: VolumeState, extent: Extent, buffers: Buffers, segments: list[Segment]
) -> Extent | None:
    """Read all segments at once; return one that the primary could not read, or None."""
    effects: list[Effect] = []
    current: list[Extent] = []
    fetches: list[tuple[Extent, list[Fetch]]] = []
    for segment in segments:
        part = segment.extent
        if segment.kind is SegmentKind.OUTDATED:
            raise LostRegionError(part.offset, part.length)
        if segment.kind is SegmentKind.CURRENT:
            effects.append(Read(Leg.PRIMARY, part, _part(buffers, extent, part)))
            current.append(part)
    for segment in segments:
        if segment.kind is SegmentKind.LOST:
            fetches.append((segment.extent, await start_fetches(state, segment.extent)))
    effects += [
        Wait(fetch.arrived) for _, group in fetches for fetch in group if not fetch.arrived.is_open
    ]
    results = await AllOf(tuple(effects))
    _copy_fetched(extent, buffers, fetches)
    return _account_current(state, current, results)


def _copy_fetched(
    extent: Extent, buffers: Buffers, fetches: list[tuple[Extent, list[Fetch]]]
) -> None:
    for wanted, group in fetches:
        for fetch in group:
            if fetch.error is not None:
                raise fetch.error
            common = fetch.extent.intersection(wanted)
            assert common is not None
            copy_into(_part(buffers, extent, common), fetch.part(common))


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


async def lose_bad_regions(state: VolumeState, extent: Extent) -> None:
    """Find which regions of *extent* the primary cannot read, and make exactly those lost (LOSS-1).

    Under the lock: a write that mends a sector meanwhile must not be undone.
    """
    geometry = state.geometry
    await Lock(geometry.align_out(extent))
    regions = [r for r in geometry.regions(extent) if r in state.overwrite_map.sets.current]
    probes = tuple(_probe(state, region) for region in regions)
    results = await AllOf(probes)
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
