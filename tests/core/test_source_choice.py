"""Who is asked first: the source that was measured to answer sooner, and not in turns."""

from __future__ import annotations

from tcmu_restore.core.effects import Leg
from tcmu_restore.core.source_choice import PROBE_SECONDS, SMALL, SourceChoice

KIB = 1024
MIB = 1024 * KIB


def measure(choice: SourceChoice, leg: Leg, length: int, seconds: float, times: int = 1) -> None:
    for _ in range(times):
        choice.read_ended(leg, length, seconds=seconds, now=100.0)


def test_backup_is_asked_as_long_as_nothing_is_known_of_the_snapshot() -> None:
    choice = SourceChoice()
    measure(choice, Leg.BACKUP, 4 * KIB, 2.0)
    assert choice.choose(4 * KIB) is Leg.BACKUP


def test_clearly_faster_source_is_asked() -> None:
    choice = SourceChoice()
    measure(choice, Leg.BACKUP, 4 * KIB, 0.6)
    measure(choice, Leg.SNAPSHOT, 4 * KIB, 0.002)
    assert choice.choose(4 * KIB) is Leg.SNAPSHOT


def test_sources_that_are_alike_do_not_take_turns() -> None:
    choice = SourceChoice()
    asked = set()
    for turn in range(100):
        fast, slow = (0.0045, 0.0055) if turn % 2 else (0.0055, 0.0045)
        measure(choice, Leg.BACKUP, 4 * KIB, slow)
        measure(choice, Leg.SNAPSHOT, 4 * KIB, fast)
        asked.add(choice.choose(4 * KIB))
    assert asked == {Leg.BACKUP}


def test_source_that_became_fast_is_asked_within_some_reads() -> None:
    choice = SourceChoice()
    measure(choice, Leg.BACKUP, 4 * KIB, 0.005)
    measure(choice, Leg.SNAPSHOT, 4 * KIB, 1.0)
    assert choice.choose(4 * KIB) is Leg.BACKUP
    reads = 0
    while choice.choose(4 * KIB) is Leg.BACKUP:
        measure(choice, Leg.SNAPSHOT, 4 * KIB, 0.0005)
        reads += 1
        assert reads < 40
    assert reads > 1  # one lucky read decides nothing


def test_large_reads_go_by_the_rate_and_small_ones_by_the_latency() -> None:
    choice = SourceChoice()
    measure(choice, Leg.BACKUP, 4 * KIB, 0.002)  # near and narrow
    measure(choice, Leg.BACKUP, MIB, 1.0)
    measure(choice, Leg.SNAPSHOT, 4 * KIB, 0.05)  # far and wide
    measure(choice, Leg.SNAPSHOT, MIB, 0.06)
    assert choice.choose(4 * KIB) is Leg.BACKUP
    assert choice.choose(MIB) is Leg.SNAPSHOT
    assert choice.choose(4 * KIB) is Leg.BACKUP


def test_probe_is_due_when_no_small_read_was_measured_lately() -> None:
    choice = SourceChoice()
    assert choice.is_probe_due(Leg.SNAPSHOT, 0.0)
    measure(choice, Leg.SNAPSHOT, SMALL, 0.01)
    assert not choice.is_probe_due(Leg.SNAPSHOT, 100.0 + PROBE_SECONDS / 2)
    assert choice.is_probe_due(Leg.SNAPSHOT, 100.0 + PROBE_SECONDS)
    measure(choice, Leg.BACKUP, MIB, 0.01)
    assert choice.is_probe_due(Leg.BACKUP, 100.0)


def test_link_that_came_back_is_another_one() -> None:
    choice = SourceChoice()
    measure(choice, Leg.BACKUP, 4 * KIB, 0.6)
    measure(choice, Leg.SNAPSHOT, 4 * KIB, 0.002)
    assert choice.choose(4 * KIB) is Leg.SNAPSHOT
    choice.forget(Leg.SNAPSHOT)
    assert choice.choose(4 * KIB) is Leg.BACKUP


def test_goodput_follows_the_best_reads_and_forgets_them() -> None:
    choice = SourceChoice()
    measure(choice, Leg.BACKUP, MIB, 0.1)
    fast = choice.speeds[Leg.BACKUP].goodput
    assert fast == MIB / 0.1
    measure(choice, Leg.BACKUP, 4 * KIB, 1.2, times=80)
    slow = choice.speeds[Leg.BACKUP].goodput
    assert slow is not None
    assert slow < 10 * KIB
