"""``merge`` and its progress bar; the fake merge moves one step a poll."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.command_line import CommandLine
from tests.service.fake_registry import RATE, SIZE, FakeRegistry, make_status


@pytest.fixture
def attached(registry: FakeRegistry) -> FakeRegistry:
    snapshot = {"source": "/dev/s", "reachable": True, "reason": ""}
    registry.volumes["a"] = make_status("a", snapshot=snapshot)
    return registry


def step(done: float, state: str = "running", **changes: Any) -> dict[str, Any]:
    left = (1 - done) * SIZE / RATE
    return {
        "state": state,
        "bytes_done": int(done * SIZE),
        "rate_bytes_per_second": RATE,
        "seconds_left": left,
    } | changes


def test_start_returns_at_once_and_says_how_to_watch(
    command_line: CommandLine, attached: FakeRegistry
) -> None:
    outcome = command_line("merge", "start", "a")
    assert outcome.status == 0
    assert outcome.out == "The merge runs. Watch it with: tcmu-restore status a\n"
    assert command_line.slept == []


def test_start_without_a_snapshot_is_a_matter_of_state(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a")
    outcome = command_line("merge", "start", "a", "--wait")
    assert outcome.status == 5
    assert "no snapshot is attached" in outcome.out + outcome.err


@pytest.mark.parametrize("verb", ["start", "resume"])
def test_wait_shows_progress_and_ends_with_the_merge(
    command_line: CommandLine, attached: FakeRegistry, verb: str
) -> None:
    attached.volumes["a"]["merge"]["bytes_total"] = SIZE
    attached.merge_steps = [step(0.25), step(0.5), step(1.0, "done", seconds_left=None)]
    outcome = command_line("merge", verb, "a", "--wait")
    assert outcome.status == 0
    assert command_line.slept == [1.0, 1.0]
    assert "100 % of 1 GiB" in outcome.out
    assert "Attach a snapshot" in outcome.out  # the service's advice


@pytest.mark.parametrize(
    ("state", "reason", "sentence"),
    [
        ("failed", "the snapshot was read beyond its end", "read beyond its end"),
        ("paused", "", "it is paused, go on with: tcmu-restore merge resume"),
        ("idle", "", "it was cancelled"),
    ],
)
def test_wait_for_a_merge_that_ends_early_says_why(
    command_line: CommandLine, attached: FakeRegistry, state: str, reason: str, sentence: str
) -> None:
    attached.merge_steps = [step(0.25), step(0.3, state, reason=reason)]
    outcome = command_line("merge", "start", "a", "--wait")
    assert outcome.status == 1
    assert sentence in outcome.out + outcome.err


def test_leaving_the_wait_leaves_the_merge_running(
    command_line: CommandLine, attached: FakeRegistry
) -> None:
    attached.merge_steps = [step(0.25)]
    command_line.on_sleep = KeyboardInterrupt
    outcome = command_line("merge", "start", "a", "--wait")
    assert outcome.status == 130
    assert "The merge goes on" in outcome.out + outcome.err
    assert attached.volumes["a"]["merge"]["state"] == "running"


def test_pause_and_cancel_reach_the_service(
    command_line: CommandLine, attached: FakeRegistry
) -> None:
    assert command_line("merge", "pause", "a").status == 0
    assert attached.volumes["a"]["merge"]["state"] == "paused"
    assert command_line("merge", "cancel", "a").status == 0
    assert attached.volumes["a"]["merge"]["state"] == "idle"


def test_wait_for_a_volume_that_is_closed_meanwhile_ends(
    command_line: CommandLine, attached: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = {"volume": "a", "state": "closed", "advice": "Serve it again."}
    monkeypatch.setattr(attached, "status", lambda name: closed)
    outcome = command_line("merge", "start", "a", "--wait")
    assert outcome.status == 1
    assert "Serve it again." in outcome.out + outcome.err
