"""``state rebuild``, ``resync`` and what a person sees while a verb takes long."""

from __future__ import annotations

import asyncio

import pytest

from tcmu_restore.errors import StateCorruptError, WrongStateError
from tests.cli.command_line import CommandLine
from tests.service.fake_registry import RESYNC, FakeRegistry, make_status

CLOSED = {"volume": "a", "state": "closed", "advice": "Serve it."}


def test_rebuild_says_what_it_costs_asks_and_tells_what_was_salvaged(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = CLOSED | {"state_file": {"path": "/s/a.db", "error": "a bad page"}}
    command_line.answer = "y\n"
    outcome = command_line("state", "rebuild", "a")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines[0] == "/s/a.db: a bad page."
    assert "All of a counts as lost then" in lines[1]
    assert "THE OTHERS ARE GIVEN UP" in lines[2]
    assert lines[-2].startswith("The counters were salvaged.")


def test_rebuild_of_a_volume_whose_status_is_the_damage_names_it(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = CLOSED
    damage = StateCorruptError("/s/a.db", "not a database")
    registry.failures["status"] = damage
    command_line.answer = "n\n"
    outcome = command_line("state", "rebuild", "a")
    assert outcome.status == 1
    assert outcome.out.splitlines()[0] == str(damage)
    assert "state rebuild was not confirmed" in outcome.out + outcome.err
    assert [call[0] for call in registry.calls] == ["status"]


def test_rebuild_of_a_volume_that_is_not_there_asks_nothing(command_line: CommandLine) -> None:
    command_line.answer = "y\n"
    outcome = command_line("state", "rebuild", "a")
    assert outcome.status == 2
    assert "Go on?" not in outcome.out


def test_rebuild_in_a_script_does_not_ask(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a")
    assert command_line("state", "rebuild", "a", "--yes").status == 0
    assert registry.calls == [("rebuild_state", "a")]


def test_rebuild_of_a_state_that_is_sound_is_the_service_s_to_refuse(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    state_file = {"path": "/s/a.db", "error": ""}
    registry.volumes["a"] = make_status("a", state_file=state_file)
    registry.failures["rebuild_state"] = WrongStateError("a", "rebuild the state", "it is sound")
    command_line.answer = "y\n"
    outcome = command_line("state", "rebuild", "a")
    assert outcome.out.startswith("The state file of a would be made anew.")
    assert outcome.status == 5


def test_resync_is_paused_and_goes_on(command_line: CommandLine, registry: FakeRegistry) -> None:
    registry.volumes["a"] = make_status("a", resync=dict(RESYNC))
    outcome = command_line("resync", "pause", "a")
    assert outcome.out == "Paused. Go on with: tcmu-restore resync resume a\n"
    assert registry.volumes["a"]["resync"]["state"] == "paused"
    outcome = command_line("resync", "resume", "a")
    assert outcome.out == "The resync runs. Watch it with: tcmu-restore status a\n"
    assert registry.volumes["a"]["resync"]["state"] == "running"


def test_verb_that_takes_long_says_that_something_happens(
    command_line: CommandLine, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(name: str) -> str:
        await asyncio.sleep(0.05)
        return f"{name} is done."

    monkeypatch.setattr(registry, "rebuild_state", slow)
    registry.volumes["a"] = make_status("a")
    command_line.slow_seconds = 0.0
    outcome = command_line("state", "rebuild", "a", "--yes")
    said = outcome.out + outcome.err
    assert said.count("Waiting for the service to finish") == 1
    assert "a is done." in outcome.out


def test_verb_that_is_quick_says_nothing_of_the_kind(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a")
    outcome = command_line("state", "rebuild", "a", "--yes")
    assert "Waiting" not in outcome.out + outcome.err


def test_verify_is_started_with_a_repair_and_paused(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a")
    outcome = command_line("verify", "start", "a", "--repair", "backup")
    assert outcome.out == "The verification runs. Watch it with: tcmu-restore status a\n"
    assert command_line("verify", "pause", "a").out.startswith("Paused.")
    assert command_line("verify", "start", "a", "--repair", "both").status == 2
    verbs = [call for call in registry.calls if call[0] == "verify"]
    assert verbs == [("verify", "a", "start", "backup"), ("verify", "a", "pause", "none")]
