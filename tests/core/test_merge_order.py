"""The merge's order: the hottest chunks first, then in order; each region once a pass (MRG-4)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from tcmu_restore.core.geometry import Geometry
from tcmu_restore.core.heat import Heat
from tcmu_restore.core.intent_log import IntentLog
from tcmu_restore.core.merge import plan_merge_step
from tcmu_restore.core.merge_order import STEPS_A_LOOK, MergeOrder
from tcmu_restore.core.overwrite_map import OverwriteMap
from tcmu_restore.core.state import VolumeState
from tcmu_restore.units import MiB, TiB

REGION = 4096


def state_of(chunks: int, *, chunk_regions: int = 4) -> VolumeState:
    geometry = Geometry(chunks * chunk_regions * REGION, 512, REGION, 4 * MiB)
    overwrite_map = OverwriteMap(geometry.region_count)
    intent = IntentLog(zone_count=geometry.zone_count)
    state = VolumeState(geometry, overwrite_map, intent, 0, 0)
    state.heat = Heat(geometry, chunk_size=chunk_regions * REGION)
    return state


def warm(state: VolumeState, counts: dict[int, int]) -> None:
    flat, before = [], 0
    for chunk, count in sorted(counts.items()):
        flat += [chunk - before, count]
        before = chunk
    state.heat.restore({"chunk_size": state.heat.chunk_size, "accesses": 1, "counts": flat})


def run_pass(state: VolumeState, order: MergeOrder, length_max: int) -> list[range]:
    """Merge a whole pass, every step at once; return the regions of each step."""
    steps = []
    while order.next_step(length_max) is not None:
        step = order.next_step(length_max)  # asked twice, as when it was not due yet
        assert step is not None
        order.take(step)
        regions = state.geometry.regions(step.extent)
        state.overwrite_map.mark_fetched(regions)
        steps.append(regions)
    return steps


def test_hottest_chunks_come_first_and_whole() -> None:
    state = state_of(8)
    warm(state, {2: 30, 5: 90, 7: 50})
    steps = run_pass(state, MergeOrder(state), 4 * REGION)
    assert steps[:3] == [range(20, 24), range(28, 32), range(8, 12)]
    assert steps[3:] == [range(4), range(4, 8), range(12, 16), range(16, 20), range(24, 28)]


def test_small_steps_end_a_hot_chunk_before_the_next() -> None:
    state = state_of(8)
    warm(state, {2: 30, 5: 90})
    steps = run_pass(state, MergeOrder(state), 2 * REGION)
    assert steps[:4] == [range(20, 22), range(22, 24), range(8, 10), range(10, 12)]


def test_what_is_hot_later_is_taken_out_of_order() -> None:
    state = state_of(4 * STEPS_A_LOOK)
    order = MergeOrder(state)
    steps = []
    for number in range(2 * STEPS_A_LOOK):
        step = order.next_step(4 * REGION)
        assert step is not None
        order.take(step)
        steps.append(state.geometry.regions(step.extent))
        if number == 10:
            warm(state, {3: 99, 200: 50})
    last_chunk = steps[STEPS_A_LOOK - 1].start // 4
    assert last_chunk == STEPS_A_LOOK - 1  # in order, until it looks anew
    assert steps[STEPS_A_LOOK].start // 4 == 200  # chunk 3 was looked at already
    assert steps[STEPS_A_LOOK + 1].start // 4 == STEPS_A_LOOK


def test_skipped_regions_are_counted_once_and_not_those_it_merged() -> None:
    state = state_of(8)
    state.overwrite_map.mark_host_written(range(9, 11))
    state.overwrite_map.mark_host_written(range(3))
    warm(state, {2: 30})
    order = MergeOrder(state)
    order.begin_pass(counts_skipped=True)
    run_pass(state, order, 4 * REGION)
    assert state.counters.regions_skipped_current == 5
    order.begin_pass(counts_skipped=False)
    assert run_pass(state, order, 4 * REGION) == []
    assert state.counters.regions_skipped_current == 5


@given(st.data())
def test_a_pass_looks_at_every_region_once_whatever_is_hot(data: st.DataObject) -> None:
    chunk_regions = data.draw(st.sampled_from([1, 4, 16]))
    chunks = data.draw(st.integers(1, 80))
    state = state_of(chunks, chunk_regions=chunk_regions)
    regions = st.integers(0, state.geometry.region_count - 1)
    state.overwrite_map.mark_host_written(range(data.draw(regions)))
    heats = st.dictionaries(st.integers(0, chunks - 1), st.integers(0, 1000))
    warm(state, data.draw(heats))
    lost = state.overwrite_map.fillable_in(range(state.geometry.region_count))
    order = MergeOrder(state)
    seen = BitMap64()
    number = 0
    while (step := order.next_step(data.draw(st.integers(1, 20)) * REGION)) is not None:
        order.take(step)
        looked_at = BitMap64(state.geometry.regions(step.extent))
        assert seen.isdisjoint(looked_at)
        seen |= looked_at
        number += 1
        if number % 3:
            state.overwrite_map.mark_fetched(looked_at)  # the others failed: next pass
        if number % 50 == 0:
            warm(state, data.draw(heats))
    assert seen == lost


def test_mostly_current_map_of_64_tebibytes_is_passed_over_at_once() -> None:
    geometry = Geometry(64 * TiB, 512, REGION, 4 * MiB)
    overwrite_map = OverwriteMap(geometry.region_count)
    overwrite_map.sets.current.add_range(0, geometry.region_count - 5)
    intent = IntentLog(zone_count=geometry.zone_count)
    state = VolumeState(geometry, overwrite_map, intent, 0, 0)
    plan = plan_merge_step(state, 0, MiB)
    assert plan.step is not None
    assert state.geometry.regions(plan.step.extent) == range(
        geometry.region_count - 5, geometry.region_count
    )
    assert plan.skipped_current == geometry.region_count - 5
