"""A line that is slow, and one that is dead."""

from __future__ import annotations

from tcmu_restore.sources.iscsi_line import MOVED_MIN, LineWatch


def test_line_that_carries_bytes_is_moving() -> None:
    line = LineWatch(3.0)
    moved = 0
    for tick in range(20):
        assert line.look(moved, tick * 0.75) == (0.75 if tick else 0.0)
        moved += 5000
    assert line.is_moving
    assert line.moved == moved - 5000


def test_bytes_that_come_in_bursts_are_a_moving_line() -> None:
    line = LineWatch(3.0)
    seen = []
    for tick in range(40):
        line.look(tick // 3 * 4096, tick * 0.75)
        seen.append(line.is_moving)
    assert all(seen[4:])


def test_silent_line_stops_moving_after_its_window() -> None:
    line = LineWatch(3.0)
    line.look(0, 0.0)
    line.look(5000, 1.0)
    assert line.is_moving
    line.look(5000, 3.9)
    assert line.is_moving
    line.look(5000, 4.1)
    assert not line.is_moving


def test_keepalives_alone_do_not_move_a_line() -> None:
    line = LineWatch(3.0)
    line.look(0, 0.0)
    for tick in range(1, 100):
        line.look(tick * 96, tick * 3.0)  # one NOP-Out and its answer each interval
        assert not line.is_moving
    assert MOVED_MIN > 96 * 3
