"""Background copy, snapshot to primary, through the overwrite map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyroaring import BitMap64

from ..errors import RestoreError
from .buffer import Buffers
from .effects import AllOf, FindZeros, Leg, Lock, Read, Zero, first_error
from .extent import Extent
from .fetch_table import Fetch
from .fetching import still_wanted, write_fetched
from .overwrite_map import OverwriteMap
from .region_sets import runs_of
from .state import VolumeState

NOTHING: Final = BitMap64()


@dataclass(frozen=True, slots=True)
class MergeStep:
    """Some lost regions to copy with one read, all from one leg."""

    extent: Extent
    leg: Leg


@dataclass(frozen=True, slots=True)
class MergePlan:
    """The next step, where to look for the one after it, and what lies between."""

    step: MergeStep | None
    cursor: int
    """A region index; where the search was to stop, at its end."""

    skipped_current: int
    """Regions passed over because they are current: nothing is sent for them (MRG-1)."""


def plan_merge_step(
    state: VolumeState,
    cursor: int,
    length_max: int,
    *,
    stop: int | None = None,
    without: BitMap64 = NOTHING,
) -> MergePlan:
    """Find the next lost run from region *cursor* on, at most *length_max* bytes long.

    Only before region *stop*, if given, and not among the regions *without*. A run of regions in
    doubt is read from the backup, any other from the snapshot (INT-2). Outdated regions are passed
    over (LOSS-3), and so is what the snapshot does not cover (MRG-3). Changes nothing.
    """
    geometry, overwrite_map = state.geometry, state.overwrite_map
    stop = geometry.region_count if stop is None else stop
    window = max(1, length_max // geometry.region_size)
    skipped = 0
    while (cursor := state.selection.next_from(cursor)) < stop:
        regions = _grown(overwrite_map, range(cursor, min(cursor + window, stop)), stop)
        lost = state.selection.within(overwrite_map.fillable_in(regions[:window])) - without
        if lost:
            run = next(runs_of(lost))
            run, leg = _of_one_leg(run, overwrite_map.sets.in_doubt)
            skipped += _count_current(state, range(cursor, run.start), without)
            return MergePlan(MergeStep(geometry.extent_of(run), leg), run.stop, skipped)
        skipped += _count_current(state, regions, without)
        cursor = regions.stop
    return MergePlan(None, stop, skipped)


def _grown(overwrite_map: OverwriteMap, regions: range, stop: int) -> range:
    """Return *regions*, many times as long while all are current: a mostly current map of
    terabytes must not be looked at megabyte by megabyte."""
    grown = regions
    while grown.stop < stop and overwrite_map.is_current(grown):
        regions = grown
        grown = range(grown.start, min(grown.start + 4 * len(grown), stop))
    return grown if overwrite_map.is_current(grown) else regions


def _count_current(state: VolumeState, regions: range, without: BitMap64) -> int:
    """Return how many of *regions* the snapshot covers, are not *without*, and are current."""
    is_plain = not without.range_cardinality(regions.start, regions.stop)
    if state.selection.is_whole and is_plain:
        return state.overwrite_map.count_current(regions)
    covered = state.selection.within(BitMap64(regions)) - without
    return covered.intersection_cardinality(state.overwrite_map.sets.current)


def count_left(state: VolumeState) -> int:
    """Return how many regions a merge has still to fill."""
    sets = state.overwrite_map.sets
    return state.selection.outside(sets.current, sets.outdated)


def _of_one_leg(run: range, in_doubt: BitMap64) -> tuple[range, Leg]:
    doubtful = run.start in in_doubt
    stop = run.start + 1
    while stop < run.stop and (stop in in_doubt) == doubtful:
        stop += 1
    return range(run.start, stop), Leg.BACKUP if doubtful else Leg.SNAPSHOT


async def merge_step(state: VolumeState, step: MergeStep) -> None:
    """Copy what is still lost of *step* to the primary; no lock is held while it is fetched.

    Raises:
        SourceError: the source failed; nothing was changed. ``retryable`` says whether to go on.
    """
    selection = state.selection
    if not selection.covers(state.geometry.regions(step.extent)):
        return  # planned for another snapshot
    fetch = Fetch(step.extent, leg=step.leg, joinable=False)
    state.fetches.add(fetch)
    try:
        zeros = await FindZeros(step.extent) if step.leg is Leg.SNAPSHOT else []
        await _read_data(state, step, fetch, zeros)
        if step.leg is Leg.SNAPSHOT and state.selection is not selection:
            return  # another snapshot was attached meanwhile (MRG-3)
        await Lock(step.extent)
        zeroed = await _zero_holes(state, fetch, zeros)
        state.counters.regions_zeroed += zeroed  # not in one line: others count meanwhile
        merged = await write_fetched(state, fetch)
        state.counters.regions_merged += merged
    finally:
        state.fetches.remove(fetch)


async def _read_data(
    state: VolumeState, step: MergeStep, fetch: Fetch, zeros: Iterable[Extent]
) -> None:
    """Read *step* but for *zeros*, all at once. Zeros are whole regions."""
    data = [
        state.geometry.extent_of(run)
        for run in runs_of(_regions(state, [step.extent]) - _regions(state, zeros))
    ]
    parts: list[tuple[Extent, Buffers]] = [(extent, fetch.part(extent)) for extent in data]
    results = await AllOf(tuple(Read(step.leg, extent, part) for extent, part in parts))
    error = first_error(results)
    if error is not None:
        raise error
    state.counters.bytes_merged += sum(extent.length for extent in data)


def _regions(state: VolumeState, extents: Iterable[Extent]) -> BitMap64:
    regions = BitMap64()
    for extent in extents:
        whole = state.geometry.whole_regions(extent)
        if whole:
            regions.add_range(whole.start, whole.stop)
    return regions


async def _zero_holes(state: VolumeState, fetch: Fetch, zeros: Iterable[Extent]) -> int:
    """Make holes of the snapshot zeros on the primary, where still lost; return their number."""
    wanted = still_wanted(state, fetch) & _regions(state, zeros)
    if not wanted:
        return 0
    runs = [state.geometry.extent_of(run) for run in runs_of(wanted)]
    error = first_error(await AllOf(tuple(Zero(Leg.PRIMARY, extent) for extent in runs)))
    if isinstance(error, RestoreError):
        state.fail_primary(error)
        return 0
    if not still_wanted(state, fetch).issuperset(wanted):
        return 0
    state.overwrite_map.mark_fetched(wanted)
    state.primary_write_ended(wanted)
    return len(wanted)
