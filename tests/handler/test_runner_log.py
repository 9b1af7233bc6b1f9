"""Python's log records in tcmu-runner's log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tcmu_restore.handler import runner_log

Lines = list[tuple[int, str]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    written: Lines = []
    handler = runner_log.install(lambda level, text: written.append((level, text)))
    yield written
    logging.getLogger().removeHandler(handler)


def test_levels_are_those_of_syslog(lines: Lines) -> None:
    log = logging.getLogger("tcmu_restore.x")
    log.critical("a")
    log.error("b")
    log.warning("c")
    log.info("d")
    assert lines == [(3, "a"), (3, "b"), (4, "c"), (6, "d")]


def test_traceback_goes_line_by_line(lines: Lines) -> None:
    try:
        raise ValueError("cause")
    except ValueError:
        logging.getLogger("tcmu_restore.x").exception("what")
    assert lines[0] == (3, "what")
    assert lines[-1] == (3, "ValueError: cause")
    assert all("\n" not in text for _, text in lines)


def test_message_of_a_peer_begins_no_line_and_moves_no_cursor(lines: Lines) -> None:
    log = logging.getLogger("tcmu_restore.x")
    log.warning("it said %s", "x\n2026-01-01 [ERROR] forged\x1b[2J\u2028y")
    assert lines == [(4, "it said x\\n2026-01-01 [ERROR] forged\\x1b[2J\\u2028y")]
