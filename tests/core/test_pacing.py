"""The controller of background work, on simulated hosts and links."""

from __future__ import annotations

import pytest

from tcmu_restore.core.pacing import CeilingPacer, Pacer, StepSizer

MB = 1e6


def run_host(pacer: Pacer, *, base: float, capacity: float, seconds: float) -> tuple[float, float]:
    """A host's command takes *base* seconds, and longer in proportion to background load.

    Returns the mean background rate and the mean latency of the last half.
    """
    now = 100.0
    end, half = now + seconds, now + seconds / 2
    sent = busy_until = 0.0
    latencies: list[float] = []
    while now < end:
        if busy_until <= now and pacer.delay(1 << 20, now) == 0:  # one in flight
            busy_until = max(busy_until, now) + (1 << 20) / capacity
            sent += (1 << 20) * (now >= half)
        latency = base + max(0.0, busy_until - now)
        pacer.command_ended(latency, now)
        if now >= half:
            latencies.append(latency)
        now += 0.005
    return sent / (end - half), sum(latencies) / len(latencies)


def test_without_a_host_it_runs_at_the_ceiling() -> None:
    pacer = Pacer(floor=MB, ceiling=500 * MB)
    now = 0.0
    for _ in range(10_000):
        now += pacer.delay(1 << 20, now)
    assert pacer.rate == 500 * MB


def test_it_gives_way_to_a_host_and_keeps_its_floor() -> None:
    pacer = Pacer(floor=2 * MB, ceiling=1000 * MB)
    rate, latency = run_host(pacer, base=0.002, capacity=20 * MB, seconds=60)
    assert latency < 0.002 * 2 + 0.03  # one step of 1 MiB blocks the disk for 52 ms
    assert rate >= 1.5 * MB


def test_a_fast_disk_is_not_slowed_down() -> None:
    pacer = Pacer(floor=MB, ceiling=1000 * MB)
    rate, _ = run_host(pacer, base=0.01, capacity=5000 * MB, seconds=60)
    assert rate > 100 * MB


def test_the_baseline_is_learned_while_background_work_stands_still() -> None:
    pacer = Pacer(floor=MB, ceiling=1000 * MB)
    run_host(pacer, base=0.002, capacity=20 * MB, seconds=120)
    assert pacer.baseline == pytest.approx(0.002, rel=1.0)


def test_steps_grow_on_a_fast_link_and_shrink_on_a_slow_one() -> None:
    sizer = StepSizer(length_min=4096, length_max=1 << 20, depth_max=8)
    for _ in range(40):
        sizer.step_ended(sizer.length, 0.01)
    assert (sizer.length, sizer.depth) == (1 << 20, 8)
    for _ in range(60):  # the link falls to 56 kbit/s
        sizer.step_ended(sizer.length, sizer.length * sizer.depth / 7000)
    assert sizer.depth == 1
    assert sizer.length / 7000 < 1.5
    sizer.step_failed()
    assert sizer.depth == 1


def test_short_steps_do_not_make_the_size_grow() -> None:
    sizer = StepSizer(length_min=4096, length_max=1 << 20, depth_max=8)
    before = sizer.length
    for _ in range(10):
        sizer.step_ended(4096, 0.001)
    assert sizer.length == before


def test_ceiling_of_a_link_is_kept_below_the_pacers_floor() -> None:
    pacer = CeilingPacer(Pacer(floor=4 << 20, ceiling=1 << 40), lambda: 5000)
    now, sent = 0.0, 0
    while now < 60:
        delay = pacer.delay(4096, now)
        if delay <= 0:
            sent += 4096
        now += max(delay, 0.001)
    assert 0.9 * 5000 < sent / now < 1.02 * 5000


def test_link_without_a_ceiling_goes_by_the_pacer_alone() -> None:
    ceiling: list[int | None] = [None]
    pacer = CeilingPacer(Pacer(floor=1 << 20, ceiling=1 << 20), lambda: ceiling[0])
    assert pacer.delay(1 << 20, 0.0) == 0
    assert pacer.delay(1 << 20, 0.5) == 0.5
    ceiling[0] = 1 << 18
    assert pacer.delay(1 << 20, 1.0) == 0
    assert pacer.delay(1 << 20, 2.0) == 3.0


def test_step_sizer_knows_a_line_on_which_a_step_is_felt() -> None:
    sizer = StepSizer(length_min=4096, length_max=1 << 20, depth_max=8)
    felt = [sizer.is_slow]
    for length, seconds in ((16384, 2.9), (8192, 0.01)):
        sizer.step_ended(length, seconds)
        felt.append(sizer.is_slow)
    assert felt == [False, True, False]
