"""The model of a restore under a skewed load: the same each time, and hottest first helps."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from tcmu_restore.units import KiB, MiB
from tests.bench.hot_model import Load, Run
from tests.bench.hottest_first import WAYS, figures, measure

LOAD = Load(
    size=96 * MiB,
    extent_size=MiB,
    reads_per_second=150,
    history_reads=5000,
    snapshot_rate=8 * MiB,
)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [measure(LOAD, way) for way in WAYS.values()]


def test_more_reads_are_local_from_the_beginning(runs: list[Run]) -> None:
    in_order, counted, kept = (figures(run) for run in runs)
    share = "local_share_of_all_reads"
    assert kept[share] > counted[share] > in_order[share]
    first = "local_share_in_the_first_quarter"
    assert kept[first] > in_order[first] + 0.2
    assert kept["reads_from_backup"] < in_order["reads_from_backup"] * 0.7


def test_merge_takes_as_long_as_in_order(runs: list[Run]) -> None:
    in_order, _, kept = runs
    assert kept.seconds <= in_order.seconds * 1.1
    assert all(run.current_share[0] == 0 for run in runs)


def test_model_is_the_same_each_time(runs: list[Run]) -> None:
    assert asdict(measure(LOAD, WAYS["in order (nothing is counted)"])) == asdict(runs[0])


def test_steps_stay_large_where_small_extents_are_hot() -> None:
    scattered = Load(size=64 * MiB, extent_size=64 * KiB, reads_per_second=50, history_reads=2000)
    seconds = [measure(scattered, way).seconds for way in WAYS.values()]
    assert max(seconds) <= min(seconds) + 1.0
