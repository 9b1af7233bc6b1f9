"""The last events of a volume: what began, what ended, what an admin did; and no more of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tcmu_restore.engine.events import EVENTS_MAX, EventLog
from tcmu_restore.errors import WrongStateError
from tests.support.tgt import MISSING

from .rig import Rig, merged, run


def clock() -> Iterator[datetime]:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    while True:
        yield moment
        moment += timedelta(seconds=1)


def make_log() -> EventLog:
    moments = clock()
    return EventLog("v", lambda: next(moments))


def test_event_has_its_time_in_utc() -> None:
    log = make_log()
    log.add("merge", "The merge is running.")
    assert log.as_list() == [
        {
            "time": "2026-01-02T03:04:05+00:00",
            "word": "merge",
            "sentence": "The merge is running.",
            "count": 1,
        }
    ]


def test_oldest_event_gives_way() -> None:
    log = make_log()
    for number in range(EVENTS_MAX + 3):
        log.add("x", str(number))
    kept = [event["sentence"] for event in log.as_list()]
    assert kept == [str(number) for number in range(3, EVENTS_MAX + 3)]


def test_what_goes_to_and_fro_counts_up_and_pushes_nothing_out() -> None:
    log = make_log()
    log.add("command", "Command: x.")
    for _ in range(100):
        log.add("condition_began", "Now resyncing.")
        log.add("condition_ended", "No longer resyncing.")
    found = [(event["sentence"], event["count"]) for event in log.as_list()]
    assert found == [("Command: x.", 1), ("Now resyncing.", 100), ("No longer resyncing.", 100)]
    assert log.as_list()[-1]["time"] == "2026-01-02T03:07:25+00:00"


def test_command_that_is_refused_says_why() -> None:
    log = make_log()
    with pytest.raises(WrongStateError), log.verb("do it"):
        raise WrongStateError("v", "do it", "no")
    with log.verb("do it"):
        pass
    first, second = log.as_list()
    assert first["word"] == "command_failed"
    assert str(first["sentence"]).startswith("Command failed, do it: ")
    assert (second["word"], second["sentence"]) == ("command", "Command: do it.")


@pytest.mark.integration
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_restore_is_told_in_order(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await rig.registry.attach_snapshot("v", rig.snapshot.url)
            await rig.registry.merge_start("v")
            await merged(engine)
            await rig.registry.detach_snapshot("v")
            status = rig.registry.status("v")
        sentences = [event["sentence"] for event in status["events"]]
        expected = [
            "Now restoring.",
            f"Command: attach the snapshot {rig.snapshot.url}.",
            "The merge is running.",
            "No longer restoring.",
            "Now in sync.",
            "The merge is done.",
            "Command: detach the snapshot.",
        ]
        assert [sentence for sentence in sentences if sentence in expected] == expected
        assert status["backup"]["latency_ms"] is None or status["backup"]["latency_ms"] > 0
        assert status["backup"]["read_bytes"] >= 0

    run(go)


@pytest.mark.integration
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_commands_are_told(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await rig.registry.resync_pause("v")
            await rig.registry.replace_primary("v", str(other(rig.folder)))
            sentences = [event["sentence"] for event in engine.events.as_list()]
        assert "Command: pause the resync." in sentences
        assert f"Command: replace the primary by {other(rig.folder)}." in sentences

    run(go)


def other(folder: Path) -> Path:
    path = folder / "other"
    if not path.exists():
        path.write_bytes(bytes((8 << 20) + 4096))
    return path
