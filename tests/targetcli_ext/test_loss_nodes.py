"""The verbs of a loss in a real targetcli shell: nothing is given up without ``confirm=true``."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tests.service.fake_registry import RESYNC, FakeRegistry, conditions, make_status
from tests.targetcli_ext.conftest import Shell

# targetcli's, configshell's and pyparsing's own
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")

NODE = "/backstores/user:restore"
VOLUME = f"{NODE}/vol0"


@pytest.fixture
def execution_error(ui: ModuleType) -> type[Exception]:
    cls: type[Exception] = ui.ExecutionError
    return cls


@pytest.fixture
def volume(shell: Shell, service: None, registry: FakeRegistry) -> Shell:
    shell(f"{NODE} create vol0 1G vol0")
    registry.volumes["vol0"] = make_status("vol0", resync=dict(RESYNC))
    return shell


@pytest.fixture
def outdated(volume: Shell, registry: FakeRegistry) -> Shell:
    registry.volumes["vol0"]["outdated_extents"] = [[0, 4096], [1048576, 4096]]
    registry.volumes["vol0"]["regions"]["outdated"] = 2
    return volume


def verbs(registry: FakeRegistry) -> list[tuple[str, ...]]:
    return [call for call in registry.calls if call[0] != "status"]


def test_verbs_that_give_nothing_up_reach_the_service(
    volume: Shell, registry: FakeRegistry
) -> None:
    volume(f"{VOLUME} replace_primary primary=/dev/q")
    volume(f"{VOLUME} replace_primary /dev/r")
    volume(f"{VOLUME} prepare_snapshot")
    volume(f"{VOLUME} resync action=pause")
    volume(f"{VOLUME} resync resume")
    assert verbs(registry) == [
        ("replace_primary", "vol0", "/dev/q"),
        ("replace_primary", "vol0", "/dev/r"),
        ("prepare_snapshot", "vol0"),
        ("resync_pause", "vol0"),
        ("resync_resume", "vol0"),
    ]


def test_resync_with_an_unknown_action_names_the_known_ones(
    volume: Shell, execution_error: type[Exception]
) -> None:
    with pytest.raises(execution_error, match=r"choose from: pause, resume\."):
        volume(f"{VOLUME} resync start")


def test_declare_lost_says_what_it_would_do_and_does_it_only_when_confirmed(
    volume: Shell, registry: FakeRegistry, execution_error: type[Exception]
) -> None:
    with pytest.raises(execution_error) as caught:
        volume(f"{VOLUME} declare_lost offset=1M length=8k")
    said = str(caught.value).splitlines()
    assert said[0].startswith("8 KiB of vol0 (bytes 1048576 to 1056767")
    assert said[-1] == "Add confirm=true to do it."
    assert verbs(registry) == []
    volume(f"{VOLUME} declare_lost offset=1M length=8k confirm=true")
    assert verbs(registry) == [("declare_lost", "vol0", "1048576", "8192", "False")]


def test_confirmed_is_not_forced(
    volume: Shell, registry: FakeRegistry, execution_error: type[Exception]
) -> None:
    registry.volumes["vol0"]["regions"]["stale"] = 1
    with pytest.raises(execution_error, match="some of them are stale"):
        volume(f"{VOLUME} declare_lost confirm=true")
    with pytest.raises(execution_error, match="ARE GIVEN UP"):
        volume(f"{VOLUME} declare_lost force=true")
    volume(f"{VOLUME} declare_lost force=true confirm=true")
    assert [call[-1] for call in verbs(registry)] == ["False", "True"]


def test_accept_outdated_lists_the_extents_and_accepts_only_when_confirmed(
    outdated: Shell, registry: FakeRegistry, execution_error: type[Exception]
) -> None:
    with pytest.raises(execution_error) as caught:
        outdated(f"{VOLUME} accept_outdated offset=4k")
    said = str(caught.value)
    assert "  4 KiB at offset 1048576\n" in said
    assert "at offset 0" not in said
    assert "FOR GOOD" in said
    assert verbs(registry) == []
    outdated(f"{VOLUME} accept_outdated offset=4k confirm=true")
    assert verbs(registry) == [("accept_outdated", "vol0", "4096", "None")]


def test_accept_outdated_where_nothing_is_does_nothing(
    volume: Shell, registry: FakeRegistry
) -> None:
    volume(f"{VOLUME} accept_outdated")
    assert verbs(registry) == []


def test_accept_outdated_of_a_closed_volume_is_refused(
    volume: Shell, registry: FakeRegistry, execution_error: type[Exception]
) -> None:
    registry.volumes["vol0"] = {"volume": "vol0", "state": "closed", "advice": "Serve it."}
    with pytest.raises(execution_error, match="is not being served"):
        volume(f"{VOLUME} accept_outdated")
    assert verbs(registry) == []


@pytest.mark.parametrize("command", ["declare_lost offset=4kB", "accept_outdated length=x"])
def test_size_that_is_none_is_refused(
    volume: Shell, registry: FakeRegistry, execution_error: type[Exception], command: str
) -> None:
    with pytest.raises(execution_error, match="is not a number of bytes"):
        volume(f"{VOLUME} {command} confirm=true")
    assert registry.calls == []


@pytest.mark.parametrize("command", [f"{VOLUME} rebuild_state", f"{NODE} rebuild_state vol0"])
def test_rebuild_state_is_there_with_and_without_a_node_and_wants_to_be_confirmed(
    volume: Shell,
    registry: FakeRegistry,
    execution_error: type[Exception],
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    state_file = {"path": "/s/vol0.db", "error": "a bad page"}
    closed = {"volume": "vol0", "state": "closed", "advice": "", "state_file": state_file}
    registry.volumes["vol0"] = closed
    with pytest.raises(execution_error) as caught:
        volume(command)
    assert str(caught.value).startswith("/s/vol0.db: a bad page.\n")
    assert verbs(registry) == []
    volume.shell.con._stdout = sys.stdout
    volume(f"{command} confirm=true")
    assert verbs(registry) == [("rebuild_state", "vol0")]
    assert "The counters were salvaged." in capsys.readouterr().out


def test_status_says_what_to_type_here_for_a_returned_disk(
    volume: Shell, registry: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.volumes["vol0"]["primary"] |= {"state": "failed", "returned": True}
    volume.shell.con._stdout = sys.stdout
    volume(f"{VOLUME} status")
    assert capsys.readouterr().out.rstrip().endswith("with: replace_primary /dev/primary")


@pytest.mark.parametrize(
    ("changes", "words", "health"),
    [
        ({"conditions": conditions("restoring", "in_doubt")}, "restoring 0 %", None),
        (
            {"state": "degraded", "conditions": conditions("degraded", "resyncing", "restoring")},
            "degraded, restoring 0 %",
            False,
        ),
        (
            {
                "state": "failed",
                "conditions": conditions("failed", "outdated", "diskless", "degraded"),
                "primary": {"path": "/dev/p", "state": "failed", "returned": True},
            },
            "failed, outdated, diskless, degraded, the disk is back",
            False,
        ),
        ({"state": "in_doubt", "conditions": conditions("in_doubt")}, "in doubt", None),
        ({"state": "in_sync"}, "in sync", True),
        (
            {
                "conditions": conditions("state_full", "restoring"),
                "state": "state_full",
                "state_file": {"path": "/s", "error": "no space"},
            },
            "state full, restoring 0 %",
            False,
        ),
    ],
)
def test_ls_shows_the_state_and_what_else_matters(
    volume: Shell,
    registry: FakeRegistry,
    changes: dict[str, object],
    words: str,
    health: bool | None,
) -> None:
    registry.volumes["vol0"] |= changes
    summary = volume.node(VOLUME).summary()
    assert summary == (f"vol0 (1.0GiB) activated, {words}", health)


def test_ls_shows_a_state_file_that_keeps_a_volume_closed(
    volume: Shell, registry: FakeRegistry
) -> None:
    state_file = {"path": "/s", "error": "bad"}
    closed = {"volume": "vol0", "state": "closed", "advice": "", "state_file": state_file}
    registry.volumes["vol0"] = closed
    words, health = volume.node(VOLUME).summary()
    assert (words, health) == ("vol0 (1.0GiB) activated, closed, state file damaged", None)
