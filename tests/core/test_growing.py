"""A volume that grows: the kinds of its regions, the short last one, and every failure."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.effects import CommitSize, Flush, Leg, Lock, Read, Write
from tcmu_restore.core.extent import Extent
from tcmu_restore.core.fetch_table import Fetch
from tcmu_restore.core.merge import plan_merge_step
from tcmu_restore.core.overwrite_map import OverwriteMap
from tcmu_restore.core.region_sets import RegionSets
from tcmu_restore.core.volume import Volume
from tcmu_restore.errors import (
    RestoreError,
    SourceFlushError,
    SourceUnreachableError,
    SourceWriteError,
    StateWriteError,
    WrongStateError,
)
from tests.support.inline import REGION, InlineDriver, new_volume

REGIONS = 6
BLOCK = 512
TAILS = st.integers(0, REGION // BLOCK - 1).map(lambda blocks: blocks * BLOCK)
GROWTHS = st.integers(1, 6 * REGION // BLOCK).map(lambda blocks: blocks * BLOCK)


class Grown:
    """A volume on stores that have grown already; its regions are of random kinds."""

    def __init__(self, tail: int, growth: int, kinds: list[str]) -> None:
        self.volume = new_volume(REGIONS, tail=tail)
        self.before = self.volume.state.geometry
        self.size = self.before.size + growth
        self.truth = bytearray(random.Random(3).randbytes(self.size))
        """What a host must read."""
        self.driver = self._drive(kinds)

    def _drive(self, kinds: list[str]) -> InlineDriver:
        sets = self.volume.state.overwrite_map.sets
        primary = bytearray(random.Random(4).randbytes(self.size))
        backup = bytearray(self.truth)
        for region in range(self.before.region_count):
            kind = kinds[region]
            extent = self.before.extent_of(range(region, region + 1))
            where = slice(extent.offset, extent.end)
            if kind in ("current", "host_written", "stale"):
                sets.current.add(region)
                primary[where] = self.truth[where]
            if kind in ("host_written", "stale"):
                sets.host_written.add(region)
            if kind == "stale":
                sets.stale.add(region)
                backup[where] = bytes(extent.length)
            if kind == "in_doubt":
                sets.in_doubt.add(region)
        return InlineDriver(self.volume, {Leg.PRIMARY: primary, Leg.BACKUP: backup})

    def grow(self) -> None:
        self.driver.run(self.volume.grow(self.size))

    def read(self) -> bytes:
        memory = bytearray(self.volume.state.geometry.size)
        extent = self.volume.state.geometry.whole
        self.driver.run(self.volume.read(extent, buffers_of(memory)))
        return bytes(memory)


def kinds() -> Any:
    words = st.sampled_from(["lost", "current", "host_written", "stale", "in_doubt"])
    return st.lists(words, min_size=REGIONS + 1, max_size=REGIONS + 1)


def copies(sets: RegionSets) -> RegionSets:
    return sets.within(range(1 << 16))


@settings(deadline=None)
@given(TAILS, GROWTHS, kinds())
def test_grow_1_new_regions_are_lost_and_old_ones_keep_their_kinds(
    tail: int, growth: int, kinds: list[str]
) -> None:
    rig = Grown(tail, growth, kinds)
    overwrite_map = rig.volume.state.overwrite_map
    before = copies(overwrite_map.sets)
    rig.grow()
    assert overwrite_map.sets == before  # none of the new regions is of any kind: lost, no more
    geometry = rig.volume.state.geometry
    assert overwrite_map.region_count == geometry.region_count
    new = range(rig.before.region_count, geometry.region_count)
    assert overwrite_map.lost_in(range(geometry.region_count)) >= BitMap64(new)
    assert rig.read() == rig.truth  # the new bytes are the backup's, also those of a short region
    assert rig.volume.state.counters.regions_populated >= len(new)


@settings(deadline=None)
@given(TAILS, GROWTHS, kinds())
def test_a_grown_volume_opens_as_it_was_committed(tail: int, growth: int, kinds: list[str]) -> None:
    """Killed right after the size is durable: the sets of the old geometry, the new size."""
    rig = Grown(tail, growth, kinds)
    sets = copies(rig.volume.state.overwrite_map.sets)
    rig.grow()
    assert rig.driver.size == rig.size
    again = new_volume(0, tail=rig.size)
    again.state.overwrite_map = OverwriteMap(again.state.geometry.region_count, sets)
    rig.driver.volume = rig.volume = Volume(again.state)
    assert rig.read() == rig.truth


FAILURES = {
    (Read, Leg.BACKUP): SourceUnreachableError("backup", "cut"),
    (Write, Leg.PRIMARY): SourceWriteError("primary", "EIO"),
    (Flush, Leg.PRIMARY): SourceFlushError("primary", "EIO"),
    (CommitSize, Leg.SNAPSHOT): StateWriteError("state", "full"),
}


@pytest.mark.parametrize("where", FAILURES, ids=lambda where: where[0].__name__)
def test_a_failure_leaves_the_old_size(where: tuple[type, Leg]) -> None:
    rig = Grown(BLOCK, 2 * REGION, ["current"] * (REGIONS + 1))
    rig.driver.failures = {where: FAILURES[where]}
    with pytest.raises(type(FAILURES[where])):
        rig.grow()
    assert rig.volume.state.geometry == rig.before
    assert rig.driver.size == rig.before.size
    has_failed = where[1] is Leg.PRIMARY
    assert rig.volume.state.is_diskless is has_failed  # LOSS-2
    rig.driver.failures = {}
    if not has_failed:
        rig.grow()
    assert rig.read() == rig.truth[: rig.volume.state.geometry.size]


def test_map_1_the_rest_of_a_short_region_is_flushed_before_the_size_is_committed() -> None:
    rig = Grown(BLOCK, REGION, ["current"] * (REGIONS + 1))
    rig.grow()
    kinds = [type(effect) for effect in rig.driver.log if not isinstance(effect, Lock)]
    assert kinds == [Read, Write, Flush, CommitSize]
    rest = rig.driver.log[-3]
    assert isinstance(rest, Write)
    assert rest.extent == Extent(rig.before.size, REGION - BLOCK)


@pytest.mark.parametrize("kind", ["current", "stale"])
def test_grow_1_the_rest_is_copied_though_its_region_is_lost_by_now(kind: str) -> None:
    """The last commit may call it current: killed then, the volume opens with those sets."""
    rig = Grown(BLOCK, 2 * REGION, [kind] * (REGIONS + 1))
    sets = copies(rig.volume.state.overwrite_map.sets)
    rig.volume.state.lose(BitMap64([REGIONS]))
    rig.grow()
    state = new_volume(0, tail=rig.size).state
    state.overwrite_map = OverwriteMap(state.geometry.region_count, sets)
    rig.driver.volume = rig.volume = Volume(state)
    assert rig.read() == rig.truth


def test_grow_1_a_disk_given_back_keeps_the_last_region_whole() -> None:
    rig = Grown(BLOCK, 2 * REGION, ["current"] * (REGIONS + 1))
    state = rig.volume.state
    state.lose(BitMap64([REGIONS]))  # a sector could not be read
    rig.grow()
    state.fail_primary(RestoreError())
    state.adopt_primary(same_disk=True)
    assert REGIONS in state.overwrite_map.sets.current
    assert rig.read() == rig.truth


def test_grow_2_nothing_beyond_the_old_size_is_taken_before_the_commit() -> None:
    rig = Grown(0, REGION, ["lost"] * (REGIONS + 1))
    sizes = []
    perform = rig.driver.perform

    def watch(effect: Any) -> Any:
        if isinstance(effect, CommitSize):
            sizes.append(rig.volume.state.geometry.size)
        return perform(effect)

    rig.driver.perform = watch  # type: ignore[method-assign]
    rig.grow()
    assert sizes == [rig.before.size]


@pytest.mark.parametrize("is_late", [False, True])
def test_a_fetch_of_the_short_region_under_way_populates_nothing(is_late: bool) -> None:
    """Also one that begins while the size is being committed: a read takes no lock."""
    rig = Grown(BLOCK, REGION, ["lost"] * (REGIONS + 1))
    state = rig.volume.state
    fetch = Fetch(Extent(5 * REGION, REGION + BLOCK))
    perform = rig.driver.perform

    def begin_late(effect: Any) -> Any:
        if is_late and isinstance(effect, CommitSize):
            state.fetches.add(fetch)
        return perform(effect)

    rig.driver.perform = begin_late  # type: ignore[method-assign]
    if not is_late:
        state.fetches.add(fetch)
    rig.grow()
    assert list(fetch.spoiled) == [REGIONS]
    assert state.fetches.joinable(5) is fetch
    assert state.fetches.joinable(REGIONS) is None


def test_only_larger_and_only_with_a_primary() -> None:
    rig = Grown(0, REGION, ["current"] * (REGIONS + 1))
    for size in (rig.before.size, rig.before.size - REGION):
        with pytest.raises(WrongStateError, match="already"):
            rig.driver.run(rig.volume.grow(size))
    rig.volume.state.fail_primary(RestoreError())
    with pytest.raises(WrongStateError, match="replace it first"):
        rig.grow()
    assert rig.volume.state.geometry == rig.before


def test_the_merge_and_the_intent_log_see_the_new_end() -> None:
    rig = Grown(0, 8 * REGION, ["current"] * (REGIONS + 1))
    rig.grow()
    plan = plan_merge_step(rig.volume.state, 0, 64 * REGION)
    assert plan.step is not None
    assert plan.step.extent == Extent(6 * REGION, 8 * REGION)
    extent = Extent(rig.size - REGION, REGION)
    rig.driver.run(rig.volume.write(extent, buffers_of(b"n" * REGION)))
    assert rig.volume.state.intent.is_armed(rig.volume.state.geometry.zones(extent))
    rig.truth[extent.offset :] = b"n" * REGION
    assert rig.read() == rig.truth
