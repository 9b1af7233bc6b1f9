"""The procedures, one at a time, on byte arrays."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.effects import CommitIntent, CommitMap, Effect, Flush, Leg, Read, Write, Zero
from tcmu_restore.core.extent import Extent
from tcmu_restore.core.gate import Gate
from tcmu_restore.core.geometry import Geometry
from tcmu_restore.core.merge import count_left, plan_merge_step
from tcmu_restore.core.resync import plan_resync_step
from tcmu_restore.core.selection import select
from tcmu_restore.core.volume import Volume
from tcmu_restore.errors import (
    LostRegionError,
    MiscompareError,
    SourceBusyError,
    SourceReadError,
    SourceUnreachableError,
    SourceWriteError,
)
from tests.support.inline import REGION, InlineDriver, new_volume

REGIONS = 12
AWAY = SourceUnreachableError("backup", "cut")


def rig(tail: int = 0, **options: int) -> tuple[Volume, InlineDriver]:
    volume = new_volume(REGIONS, tail=tail, **options)
    size = volume.state.geometry.size
    content = bytearray(random.Random(1).randbytes(size))
    legs = {Leg.PRIMARY: bytearray(size), Leg.BACKUP: content, Leg.SNAPSHOT: bytearray(content)}
    return volume, InlineDriver(volume, legs)


def read(volume: Volume, driver: InlineDriver, offset: int, length: int) -> bytes:
    memory = bytearray(length)
    driver.run(volume.read(Extent(offset, length), buffers_of(memory)))
    return bytes(memory)


def merge_all(volume: Volume, driver: InlineDriver, step: int = 3 * REGION) -> int:
    cursor = skipped = 0
    while True:
        plan = plan_merge_step(volume.state, cursor, step)
        cursor, skipped = plan.cursor, skipped + plan.skipped_current
        if plan.step is None:
            return skipped
        driver.run(volume.merge_step(plan.step))


def test_read_of_a_lost_region_is_fetched_then_local() -> None:
    volume, driver = rig()
    expected = bytes(driver.legs[Leg.BACKUP][100:5000])
    assert read(volume, driver, 100, 4900) == expected
    driver.log.clear()
    assert read(volume, driver, 100, 4900) == expected
    assert {e.leg for e in driver.log if isinstance(e, Read)} == {Leg.PRIMARY}
    assert volume.state.counters.reads_from_backup == 1
    assert volume.state.counters.regions_populated == 2
    assert bytes(driver.legs[Leg.PRIMARY][: 2 * REGION]) == bytes(
        driver.legs[Leg.BACKUP][: 2 * REGION]
    )


def test_write_goes_to_both_sides_and_arms_first() -> None:
    volume, driver = rig()
    data = b"w" * 700
    driver.run(volume.write(Extent(3 * REGION + 512, 700), buffers_of(data)))
    order = [type(e) for e in driver.log if isinstance(e, (CommitIntent, Write))]
    assert order[0] is CommitIntent  # INT-1
    for leg in (Leg.PRIMARY, Leg.BACKUP):
        assert bytes(driver.legs[leg][3 * REGION + 512 :][:700]) == data
    # the rest of the region was filled
    whole = slice(3 * REGION, 4 * REGION)
    assert driver.legs[Leg.PRIMARY][whole] == driver.legs[Leg.BACKUP][whole]


@pytest.mark.parametrize("tail", [0, 1024])
def test_merge_completes_the_primary_and_keeps_what_hosts_wrote(tail: int) -> None:
    volume, driver = rig(tail)
    driver.run(volume.write(Extent(5 * REGION, 2 * REGION), buffers_of(b"n" * (2 * REGION))))
    skipped = merge_all(volume, driver)
    assert skipped == 2
    assert driver.legs[Leg.PRIMARY] == driver.legs[Leg.BACKUP]
    assert volume.state.overwrite_map.lost_count == 0


def test_merge_takes_holes_as_zeros_without_reading_them() -> None:
    volume, driver = rig()
    hole = Extent(2 * REGION, 4 * REGION)
    for leg in (Leg.BACKUP, Leg.SNAPSHOT):
        driver.legs[leg][hole.offset : hole.end] = bytes(hole.length)
    driver.legs[Leg.PRIMARY][:] = b"x" * len(driver.legs[Leg.PRIMARY])
    driver.zeros = [Extent(hole.offset - 512, hole.length + 1024)]  # clipped to whole regions
    merge_all(volume, driver)
    assert driver.legs[Leg.PRIMARY] == driver.legs[Leg.BACKUP]
    assert volume.state.counters.regions_zeroed == 4
    assert volume.state.counters.bytes_merged == (REGIONS - 4) * REGION


def test_flush_flushes_before_it_commits() -> None:
    volume, driver = rig()
    driver.run(volume.write(Extent(0, REGION), buffers_of(b"a" * REGION)))
    driver.log.clear()
    driver.run(volume.flush())
    order = [type(e) for e in driver.log if isinstance(e, (Flush, CommitMap))]
    assert order == [Flush, Flush, CommitMap]  # MAP-1
    assert 0 in driver.committed[-1].chunks[0].host_written  # MAP-4


def test_backup_away_makes_regions_stale_and_resync_brings_them() -> None:
    volume, driver = rig()
    driver.failures[Write, Leg.BACKUP] = AWAY
    driver.run(volume.write(Extent(REGION, REGION), buffers_of(b"a" * REGION)))
    assert list(volume.state.overwrite_map.sets.stale) == [1]
    driver.failures.clear()
    extent = plan_resync_step(volume.state, 0, 1 << 20)
    assert extent == Extent(REGION, REGION)
    driver.run(volume.resync_step(extent))
    assert not volume.state.overwrite_map.sets.stale
    assert driver.legs[Leg.BACKUP][REGION : 2 * REGION] == b"a" * REGION


def test_partial_write_to_a_lost_region_with_everything_away_changes_nothing() -> None:
    volume, driver = rig()
    driver.failures = {(Read, Leg.BACKUP): AWAY, (Read, Leg.SNAPSHOT): AWAY}
    before = bytes(driver.legs[Leg.PRIMARY])
    with pytest.raises(SourceUnreachableError):
        driver.run(volume.write(Extent(512, 512), buffers_of(b"p" * 512)))
    assert bytes(driver.legs[Leg.PRIMARY]) == before
    assert volume.state.overwrite_map.lost_count == REGIONS


def test_unreadable_region_is_lost_fetched_and_rewritten() -> None:
    volume, driver = rig()
    read(volume, driver, 0, 4 * REGION)
    bad = Extent(2 * REGION, REGION)
    broken = True
    perform = driver.perform

    def failing(effect: Effect) -> object:
        nonlocal broken
        if isinstance(effect, Write) and effect.leg is Leg.PRIMARY and effect.extent.covers(bad):
            broken = False
        if (
            broken
            and isinstance(effect, Read)
            and effect.leg is Leg.PRIMARY
            and effect.extent.overlaps(bad)
        ):
            raise SourceReadError("primary", "EIO")
        return perform(effect)

    driver.perform = failing  # type: ignore[method-assign]
    assert read(volume, driver, 0, 4 * REGION) == bytes(driver.legs[Leg.BACKUP][: 4 * REGION])
    assert volume.state.counters.regions_repaired == 1  # LOSS-1: exactly the failing one
    assert not broken


def test_failed_primary_goes_on_diskless_and_snapshot_never_hides_new_data() -> None:
    volume, driver = rig()
    read(volume, driver, 0, REGION)
    driver.failures[Write, Leg.PRIMARY] = SourceWriteError("primary", "EIO")
    driver.run(volume.write(Extent(0, REGION), buffers_of(b"d" * REGION)))  # LOSS-2
    assert volume.state.is_diskless
    assert read(volume, driver, 0, REGION) == b"d" * REGION
    driver.failures[Read, Leg.BACKUP] = AWAY
    with pytest.raises(SourceUnreachableError):  # INT-2: in doubt, not from the snapshot
        read(volume, driver, 0, REGION)


def test_stale_region_that_is_lost_is_outdated_and_never_served() -> None:
    volume, driver = rig()
    driver.failures[Write, Leg.BACKUP] = AWAY
    driver.run(volume.write(Extent(0, REGION), buffers_of(b"s" * REGION)))
    driver.failures.clear()
    volume.state.lose(BitMap64([0]))
    with pytest.raises(LostRegionError):  # LOSS-3
        read(volume, driver, 0, 512)
    with pytest.raises(LostRegionError):
        driver.run(volume.write(Extent(512, 512), buffers_of(b"p" * 512)))
    assert merge_all(volume, driver) == 0
    driver.run(volume.write(Extent(0, REGION), buffers_of(b"n" * REGION)))
    assert read(volume, driver, 0, REGION) == b"n" * REGION


def test_unmapped_is_zero_and_current() -> None:
    volume, driver = rig()
    driver.run(volume.zero(Extent(REGION + 512, 3 * REGION)))  # ZERO-1
    assert read(volume, driver, REGION + 512, 3 * REGION) == bytes(3 * REGION)
    assert volume.is_current(Extent(REGION, 4 * REGION))
    merge_all(volume, driver)
    assert driver.legs[Leg.PRIMARY] == driver.legs[Leg.BACKUP]


def test_compare_and_write() -> None:
    volume, driver = rig()
    old = bytes(driver.legs[Leg.BACKUP][512:1024])
    new = b"c" * 512
    driver.run(volume.compare_and_write(Extent(512, 512), buffers_of(old + new)))
    assert read(volume, driver, 512, 512) == new
    with pytest.raises(MiscompareError) as caught:
        driver.run(volume.compare_and_write(Extent(512, 512), buffers_of(b"c" * 511 + b"x" + old)))
    assert caught.value.offset == 511
    assert read(volume, driver, 512, 512) == new


def test_checkpoint_disarms_only_idle_zones() -> None:
    volume, driver = rig()
    driver.run(volume.write(Extent(0, REGION), buffers_of(b"a" * REGION)))
    assert driver.zones == {0}
    driver.run(volume.checkpoint())
    assert driver.zones == {0}  # busy since the last sweep
    driver.run(volume.checkpoint())
    assert driver.zones == set()
    driver.run(volume.write(Extent(0, REGION), buffers_of(b"b" * REGION)))
    assert driver.zones == {0}


def test_unclean_stop_makes_armed_zones_stale_and_in_doubt() -> None:
    volume, driver = rig()
    driver.run(volume.write(Extent(0, REGION), buffers_of(b"a" * REGION)))
    volume.recover()  # INT-2
    sets = volume.state.overwrite_map.sets
    assert list(sets.stale) == [0]
    assert list(sets.in_doubt) == [1, 2, 3]


def test_after_an_unclean_stop_no_snapshot_is_as_new_as_an_armed_zone() -> None:
    volume, driver = rig()
    read(volume, driver, 0, REGION)  # populated: not host-written
    driver.run(volume.write(Extent(REGION, REGION), buffers_of(b"a" * REGION)))
    volume.recover()
    assert 0 in volume.state.overwrite_map.sets.host_written
    volume.state.lose(BitMap64([0]))
    assert 0 in volume.state.overwrite_map.sets.in_doubt


def test_sequential_reads_are_fetched_ahead() -> None:
    volume, driver = rig(fetch_ahead_max=4 * REGION)
    read(volume, driver, 0, REGION)
    read(volume, driver, REGION, REGION)
    assert volume.state.counters.bytes_read_from_backup > 4 * REGION


step = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 95), st.integers(1, 24), st.integers(1, 255)),
    st.tuples(st.just("zero"), st.integers(0, 95), st.integers(1, 40), st.just(0)),
    st.tuples(st.just("same"), st.integers(0, 95), st.integers(1, 24), st.integers(0, 255)),
    st.tuples(st.just("read"), st.integers(0, 95), st.integers(1, 96), st.just(0)),
    st.tuples(st.just("merge"), st.integers(0, 11), st.just(0), st.just(0)),
    st.tuples(st.just("flush"), st.just(0), st.just(0), st.just(0)),
)


@settings(max_examples=150)
@given(st.lists(step, max_size=25), st.sampled_from([0, 1024]))
def test_any_workload_reads_as_a_plain_disk_would(
    steps: list[tuple[str, int, int, int]], tail: int
) -> None:
    volume, driver = rig(tail)
    model = bytearray(driver.legs[Leg.BACKUP])
    for kind, unit, count, value in steps:
        offset = unit * 512
        length = min(count * 512, len(model) - offset)
        if kind == "write":
            data = bytes([value]) * length
            driver.run(volume.write(Extent(offset, length), buffers_of(data), fua=value % 2 == 0))
            model[offset : offset + length] = data
        elif kind == "zero":
            driver.run(volume.zero(Extent(offset, length)))
            model[offset : offset + length] = bytes(length)
        elif kind == "same":
            block = bytes([value]) * 512
            driver.run(volume.write_same(Extent(offset, length), buffers_of(block)))
            model[offset : offset + length] = block * (length // 512)
        elif kind == "read":
            assert read(volume, driver, offset, length) == model[offset : offset + length]
        elif kind == "merge":
            plan = plan_merge_step(volume.state, unit, 2 * REGION)
            if plan.step is not None:
                driver.run(volume.merge_step(plan.step))
        else:
            driver.run(volume.flush())
        assert len(volume.state.locks) == 0
    merge_all(volume, driver)
    assert driver.legs[Leg.PRIMARY] == model
    assert driver.legs[Leg.BACKUP] == model
    assert not any(isinstance(e, Zero) and e.extent.end > len(model) for e in driver.log)


def selected(volume: Volume, *extents: Extent) -> None:
    volume.state.selection = select(volume.state.geometry, extents)


def test_merge_of_a_selected_data_set_touches_nothing_else() -> None:
    volume, driver = rig(tail=512)
    size = volume.state.geometry.size
    tail = Extent(REGIONS * REGION - 512, 1024)  # MRG-3: of the region before the tail only a part
    selected(volume, tail, Extent(REGION + 512, 3 * REGION), Extent(4 * REGION, REGION))
    driver.legs[Leg.SNAPSHOT][: REGION + 512] = b"x" * (REGION + 512)
    assert count_left(volume.state) == 4
    merge_all(volume, driver)
    assert list(volume.state.overwrite_map.sets.current) == [2, 3, 4, REGIONS]
    assert count_left(volume.state) == 0
    assert read(volume, driver, 0, size) == driver.legs[Leg.BACKUP]


def test_merge_of_a_selected_data_set_leaves_doubtful_regions_outside_alone() -> None:
    volume, driver = rig()
    volume.state.overwrite_map.mark_in_doubt(BitMap64([1, 5]))
    selected(volume, Extent(0, 3 * REGION))
    assert merge_all(volume, driver) == 0
    assert list(volume.state.overwrite_map.sets.current) == [0, 1, 2]
    assert list(volume.state.overwrite_map.sets.in_doubt) == [5]


def test_snapshot_answers_for_its_selected_data_set_only() -> None:
    volume, driver = rig()
    selected(volume, Extent(0, 2 * REGION + 512))
    driver.failures[Read, Leg.BACKUP] = AWAY
    assert read(volume, driver, 0, 2 * REGION) == driver.legs[Leg.SNAPSHOT][: 2 * REGION]
    for offset in (2 * REGION, 5 * REGION):
        with pytest.raises(SourceUnreachableError):  # MRG-3
            read(volume, driver, offset, 512)


def test_merge_skips_what_is_current_of_the_selected_data_set() -> None:
    volume, driver = rig()
    read(volume, driver, 0, 4 * REGION)
    selected(volume, Extent(2 * REGION, 4 * REGION))
    assert merge_all(volume, driver, step=REGION) == 2


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60)), max_size=6))
def test_selection_is_the_whole_regions_of_all_extents_together(
    pairs: list[tuple[int, int]],
) -> None:
    geometry = Geometry(64 * 4, 1, 4, 8)
    extents = [Extent(offset, min(length, 256 - offset)) for offset, length in pairs]
    named = {byte for extent in extents for byte in range(extent.offset, extent.end)}
    expected = {
        region for region in range(64) if named.issuperset(range(region * 4, region * 4 + 4))
    }
    found = select(geometry, extents)
    assert {region for region in range(64) if found.covers(range(region, region + 1))} == expected
    assert found.count == found.outside() == len(expected)
    for region in range(65):
        assert found.next_from(region) == min((r for r in expected if r >= region), default=64)


def from_snapshot(volume: Volume) -> None:
    volume.state.first_source = lambda _: Leg.SNAPSHOT


def legs_read(driver: InlineDriver) -> set[Leg]:
    return {effect.leg for effect in driver.log if isinstance(effect, Read)}


def test_lost_region_is_asked_of_the_faster_source() -> None:
    volume, driver = rig()
    from_snapshot(volume)
    expected = bytes(driver.legs[Leg.BACKUP][:REGION])
    assert read(volume, driver, 0, REGION) == expected
    assert legs_read(driver) == {Leg.SNAPSHOT}
    assert volume.state.counters.reads_from_snapshot == 1
    driver.log.clear()
    assert read(volume, driver, 0, REGION) == expected
    assert legs_read(driver) == {Leg.PRIMARY}


@pytest.mark.parametrize("kind", ["in_doubt", "host_written"])
def test_faster_snapshot_is_not_asked_for_what_may_be_newer(kind: str) -> None:
    volume, driver = rig()
    from_snapshot(volume)
    driver.legs[Leg.SNAPSHOT][:] = bytes(len(driver.legs[Leg.SNAPSHOT]))
    if kind == "in_doubt":
        volume.state.overwrite_map.mark_in_doubt(BitMap64([1]))
    else:
        data = b"n" * REGION
        driver.run(volume.write(Extent(REGION, REGION), buffers_of(bytearray(data))))
        driver.run(volume.declare_lost(Extent(REGION, REGION)))
    driver.log.clear()
    expected = bytes(driver.legs[Leg.BACKUP][: 2 * REGION])
    assert read(volume, driver, 0, 2 * REGION) == expected
    assert Leg.SNAPSHOT not in legs_read(driver)


def test_faster_source_that_fails_is_replaced_by_the_other_one() -> None:
    volume, driver = rig()
    from_snapshot(volume)
    driver.failures[Read, Leg.SNAPSHOT] = AWAY
    expected = bytes(driver.legs[Leg.BACKUP][:REGION])
    assert read(volume, driver, 0, REGION) == expected
    assert legs_read(driver) >= {Leg.SNAPSHOT, Leg.BACKUP}
    assert volume.state.counters.reads_from_snapshot == 0


def test_read_that_has_waited_long_enough_is_busy_and_its_fetch_goes_on() -> None:
    volume, driver = rig()
    patience = Gate()
    patience.open()
    memory = bytearray(REGION)
    with pytest.raises(SourceBusyError, match="on its way"):
        driver.run(volume.read(Extent(0, REGION), buffers_of(memory), patience=patience))
    assert memory == bytes(REGION)  # nothing is written to it any more
    driver.log.clear()
    expected = bytes(driver.legs[Leg.BACKUP][:REGION])
    assert read(volume, driver, 0, REGION) == expected
    assert legs_read(driver) == {Leg.PRIMARY}
