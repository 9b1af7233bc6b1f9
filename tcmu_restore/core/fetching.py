"""Fetches lost regions, answers those who wait, and populates the primary."""

from __future__ import annotations

from pyroaring import BitMap64

from ..errors import LostRegionError, RestoreError
from .buffer import Buffers, buffers_of
from .effects import AllOf, Leg, Lock, Read, Spawn, Write, first_error
from .extent import Extent
from .fetch_table import Fetch
from .region_sets import runs_of
from .state import VolumeState


async def read_lost(state: VolumeState, extent: Extent, buffers: Buffers) -> Leg:
    """Fill *buffers* with the bytes that the backup held at the loss (RD-1); return who had them.

    The snapshot may answer for regions that are not in doubt (INT-2): when it is the faster one,
    or while the backup is away. Whoever is asked first, the other one is asked when that fails.

    Raises:
        SourceError: nobody could serve it; ``retryable`` says whether trying again may help.
    """
    is_free = _snapshot_may_serve(state, extent)
    first = state.first_source(extent) if is_free else Leg.BACKUP
    if first is Leg.SNAPSHOT and await _read_snapshot(state, extent, buffers):
        return Leg.SNAPSHOT
    try:
        await Read(Leg.BACKUP, extent, buffers)
    except RestoreError:
        if first is Leg.SNAPSHOT or not _snapshot_may_serve(state, extent):
            raise
        if not await _read_snapshot(state, extent, buffers):
            raise
        return Leg.SNAPSHOT
    state.counters.reads_from_backup += 1
    state.counters.bytes_read_from_backup += extent.length
    return Leg.BACKUP


async def _read_snapshot(state: VolumeState, extent: Extent, buffers: Buffers) -> bool:
    """Read from the snapshot, which may serve *extent* now; return whether its bytes count."""
    selection = state.selection
    try:
        await Read(Leg.SNAPSHOT, extent, buffers)
    except RestoreError:
        return False
    is_another = state.selection is not selection
    if is_another or not _snapshot_may_serve(state, extent):  # a write may have come since
        return False
    state.counters.reads_from_snapshot += 1
    state.counters.bytes_read_from_snapshot += extent.length
    return True


def _snapshot_may_serve(state: VolumeState, extent: Extent) -> bool:
    """Whether the snapshot covers *extent* (MRG-3), and no region of it is newer."""
    sets = state.overwrite_map.sets
    touched = state.geometry.regions(extent)
    if not state.selection.covers(touched):
        return False
    regions = BitMap64(touched)
    newer = (sets.in_doubt, sets.outdated, sets.host_written)
    return all(kind.isdisjoint(regions) for kind in newer)


def check_not_outdated(state: VolumeState, extent: Extent) -> None:
    """Raise LostRegionError if the newest bytes of a region of *extent* are gone (LOSS-3)."""
    outdated = state.overwrite_map.sets.outdated
    if not outdated.isdisjoint(BitMap64(state.geometry.regions(extent))):
        raise LostRegionError(extent.offset, extent.length)


async def start_fetches(state: VolumeState, extent: Extent) -> list[tuple[Extent, Fetch]]:
    """Return what to take from which fetch for *extent*, all lost; joined where one is on its way.

    The extents cover *extent* in order. A spoiled region of a fetch is never taken from it.
    """
    found: list[tuple[Extent, Fetch]] = []
    geometry = state.geometry
    extension = state.readahead.extension(extent)
    region, stop = geometry.regions(extent).start, geometry.regions(extent).stop
    while region < stop:
        fetch = state.fetches.joinable(region)
        if fetch is None:
            fetch = _new_fetch(state, range(region, stop), extension)
            await Spawn(run_fetch(state, fetch))
        first, region = region, region + 1
        while region < stop and fetch.serves(region, geometry):
            region += 1
        part = geometry.extent_of(range(first, region)).intersection(extent)
        assert part is not None
        found.append((part, fetch))
    return found


def _new_fetch(state: VolumeState, wanted: range, extension: int) -> Fetch:
    """Begin with *wanted*, stop before what is on its way, go on into the lost regions behind."""
    geometry = state.geometry
    ahead = wanted.stop + -(-extension // geometry.region_size)
    limit = min(ahead, geometry.region_count)
    fillable = state.overwrite_map.fillable_in(range(wanted.start, limit))
    stop = wanted.start + 1
    while stop < limit and stop in fillable and state.fetches.joinable(stop) is None:
        stop += 1
    fetch = Fetch(geometry.extent_of(range(wanted.start, stop)))
    fetch.keep = state.fetches.backlog + fetch.extent.length <= state.populate_backlog_max
    state.fetches.add(fetch)
    return fetch


async def run_fetch(state: VolumeState, fetch: Fetch) -> None:
    """Read what *fetch* is for, open its gate, then populate the primary from it."""
    try:
        fetch.leg = await read_lost(state, fetch.extent, buffers_of(fetch.memory))
    except RestoreError as error:
        fetch.error = error
    except BaseException:
        fetch.error = LostRegionError(fetch.extent.offset, fetch.extent.length)
        raise
    finally:
        if fetch.error is not None:
            state.fetches.remove(fetch)
        fetch.arrived.open()
    if fetch.error is None:
        try:
            await populate(state, fetch)
        finally:
            state.fetches.remove(fetch)


async def populate(state: VolumeState, fetch: Fetch) -> None:
    """Write to the primary what is still lost of *fetch* and was not written meanwhile (RD-2)."""
    if not fetch.keep:
        state.counters.populates_dropped += 1
        return
    await Lock(fetch.extent)
    written = await write_fetched(state, fetch)
    state.counters.regions_populated += written


async def write_fetched(state: VolumeState, fetch: Fetch) -> int:
    """Write *fetch* to the primary where its regions are still lost; return their number.

    The caller holds the lock on the fetch's extent.
    """
    wanted = still_wanted(state, fetch)
    if not wanted:
        return 0
    extents = [state.geometry.extent_of(run) for run in runs_of(wanted)]
    results = await AllOf(
        tuple(Write(Leg.PRIMARY, extent, fetch.part(extent)) for extent in extents)
    )
    error = first_error(results)
    if error is not None:
        state.fail_primary(error)
        return 0
    if not still_wanted(state, fetch).issuperset(wanted):  # a loss came in between
        return 0
    state.overwrite_map.mark_fetched(wanted)  # MAP-2: after the write
    state.primary_write_ended(wanted)
    return len(wanted)


def still_wanted(state: VolumeState, fetch: Fetch) -> BitMap64:
    """Return the regions of *fetch* that may be filled from it now (MRG-1, RD-2).

    What came to be in doubt since a snapshot was asked is not the snapshot's to fill (INT-2).
    """
    if state.is_diskless:
        return BitMap64()
    wanted = state.overwrite_map.fillable_in(state.geometry.regions(fetch.extent)) - fetch.spoiled
    return wanted - state.overwrite_map.sets.in_doubt if fetch.leg is Leg.SNAPSHOT else wanted
