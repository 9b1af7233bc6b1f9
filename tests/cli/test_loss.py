"""The verbs of a loss: what they say before, what they do, and that they do nothing unasked."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tcmu_restore.cli.consequence import has_unlisted_outdated
from tcmu_restore.service.registry_seam import VolumeStatus
from tests.cli.command_line import CommandLine
from tests.service.fake_registry import SIZE, FakeRegistry, make_status

EXTENTS = [[0, 4096], [1048576, 8192]]


@pytest.fixture
def volume(registry: FakeRegistry) -> dict[str, Any]:
    registry.volumes["a"] = make_status("a")
    return registry.volumes["a"]


@pytest.fixture
def outdated(volume: dict[str, Any]) -> dict[str, Any]:
    volume["outdated_extents"] = [list(extent) for extent in EXTENTS]
    volume["regions"]["outdated"] = 3
    return volume


def verbs(registry: FakeRegistry) -> list[tuple[str, ...]]:
    return [call for call in registry.calls if call[0] != "status"]


# --- replace-primary ------------------------------------------------------------------------


def test_replace_primary_gives_the_disk_and_says_how_to_watch(
    command_line: CommandLine, registry: FakeRegistry, volume: dict[str, Any]
) -> None:
    outcome = command_line("replace-primary", "a", "--primary", "/dev/q")
    assert (outcome.status, volume["primary"]["path"]) == (0, "/dev/q")
    assert outcome.out.endswith("Watch it with: tcmu-restore status a\n")
    assert verbs(registry) == [("replace_primary", "a", "/dev/q")]


def test_replace_primary_by_nothing_is_a_usage_error(
    command_line: CommandLine, registry: FakeRegistry, volume: dict[str, Any]
) -> None:
    assert command_line("replace-primary", "a").status == 2
    assert command_line("replace-primary", "a", "--primary", "").status == 2
    assert verbs(registry) == []


# --- declare-lost ---------------------------------------------------------------------------


def test_declare_lost_says_exactly_what_it_would_do_and_asks(
    command_line: CommandLine, registry: FakeRegistry, volume: dict[str, Any]
) -> None:
    command_line.answer = "y\n"
    outcome = command_line("declare-lost", "a", "--offset", "1M", "--length", "8k")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines[0] == (
        "8 KiB of a (bytes 1048576 to 1056767) would count as lost: "
        "what /dev/primary holds there is not used again, and is fetched from "
        "iscsi://backup/iqn.a/0 anew."
    )
    assert lines[1].startswith("Go on? [y/N]")
    assert lines[-1] == "2 regions of a are lost now and come from the backup again."
    assert verbs(registry) == [("declare_lost", "a", "1048576", "8192", "False")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "All of a (1 GiB) would count as lost"),
        (("--offset", "4k"), "All of a from byte 4096 to its end would count as lost"),
        (("--length", "4k"), "4 KiB of a (bytes 0 to 4095) would"),
        (("--offset", "1", "--length", "4096"), "8 KiB of a (bytes 0 to 8191) would"),
        (("--offset", "4097"), "All of a from byte 4096 to its end would count as lost"),
    ],
)
@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_declare_lost_without_a_yes_does_nothing(
    command_line: CommandLine,
    registry: FakeRegistry,
    volume: dict[str, Any],
    options: tuple[str, ...],
    words: str,
    answer: str,
) -> None:
    command_line.answer = answer
    outcome = command_line("declare-lost", "a", *options)
    assert outcome.status == 1
    assert words in outcome.out
    said = outcome.out + outcome.err
    assert "declare-lost was not confirmed; nothing was changed. In a script, add: --yes" in said
    assert verbs(registry) == []


def test_declare_lost_in_a_script_does_not_ask(
    command_line: CommandLine, registry: FakeRegistry, volume: dict[str, Any]
) -> None:
    command_line.answer = ""
    outcome = command_line("declare-lost", "a", "--yes")
    assert (outcome.status, outcome.out.count("\n")) == (0, 1)
    assert registry.calls == [("declare_lost", "a", "0", "None", "False")]


def test_declare_lost_warns_of_what_cannot_be_read_then(
    command_line: CommandLine, volume: dict[str, Any]
) -> None:
    volume["backup"] |= {"reachable": False, "reason": "no route"}
    command_line.answer = "n\n"
    assert "until it can, these bytes cannot be read" in command_line("declare-lost", "a").out


def test_declare_lost_of_stale_regions_is_refused_unless_forced(
    command_line: CommandLine, registry: FakeRegistry, volume: dict[str, Any]
) -> None:
    volume["regions"]["stale"] = 7
    command_line.answer = "y\n"
    outcome = command_line("declare-lost", "a")
    assert outcome.status == 5
    assert "7 regions of the volume hold acknowledged writes" in outcome.out
    assert "the request is refused" in outcome.out
    assert "GIVEN UP" not in outcome.out
    outcome = command_line("declare-lost", "a", "--force")
    assert outcome.status == 0
    assert "THE NEWEST WRITES TO THOSE IN THIS RANGE ARE GIVEN UP" in outcome.out
    assert "is refused" not in outcome.out
    assert verbs(registry)[-1] == ("declare_lost", "a", "0", "None", "True")


def test_yes_alone_does_not_force(
    command_line: CommandLine, registry: FakeRegistry, volume: dict[str, Any]
) -> None:
    volume["regions"]["stale"] = 7
    assert command_line("declare-lost", "a", "--yes").status == 5
    assert registry.calls[-1][-1] == "False"


def test_declare_lost_of_a_closed_volume_claims_nothing_of_its_disks(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = {"volume": "a", "state": "closed", "advice": "Serve it."}
    command_line.answer = "n\n"
    outcome = command_line("declare-lost", "a", "--length", "4k")
    assert outcome.out.splitlines()[0] == "4 KiB of a (bytes 0 to 4095) would count as lost."


@pytest.mark.parametrize("verb", ["declare-lost", "accept-outdated"])
@pytest.mark.parametrize("option", ["--offset", "--length"])
def test_size_that_is_none_is_a_usage_error(
    command_line: CommandLine, registry: FakeRegistry, verb: str, option: str
) -> None:
    outcome = command_line(verb, "a", option, "4kB", "--yes")
    assert outcome.status == 2
    assert "'4kB' is not a number of bytes" in outcome.out + outcome.err
    assert registry.calls == []


def test_empty_extent_is_refused(
    command_line: CommandLine, registry: FakeRegistry, volume: dict[str, Any]
) -> None:
    outcome = command_line("declare-lost", "a", "--length", "0", "--yes")
    assert outcome.status == 2
    assert "it must be at least 1" in outcome.out + outcome.err
    assert verbs(registry) == []


# --- accept-outdated ------------------------------------------------------------------------


def test_accept_outdated_lists_the_extents_and_says_what_is_given_up(
    command_line: CommandLine, registry: FakeRegistry, outdated: dict[str, Any]
) -> None:
    command_line.answer = "y\n"
    outcome = command_line("accept-outdated", "a")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert lines[1:3] == ["  4 KiB at offset 0", "  8 KiB at offset 1048576"]
    assert "GIVE UP THOSE ACKNOWLEDGED WRITES FOR GOOD" in lines[3]
    assert lines[-1] == "3 regions of a: the backup's older bytes count from now on."
    assert outdated["regions"]["outdated"] == 0


def test_accept_outdated_accepts_exactly_what_it_listed(
    command_line: CommandLine, registry: FakeRegistry, outdated: dict[str, Any]
) -> None:
    command_line.answer = "y\n"
    command_line("accept-outdated", "a", "--offset", "4k")
    assert verbs(registry) == [("accept_outdated", "a", "1048576", "8192")]
    assert outdated["outdated_extents"] == [[0, 4096]]


def test_accept_outdated_cuts_the_list_to_the_range(
    command_line: CommandLine, registry: FakeRegistry, outdated: dict[str, Any]
) -> None:
    command_line.answer = "y\n"
    outcome = command_line("accept-outdated", "a", "--offset", "1048576", "--length", "4k")
    assert "4 KiB at offset 1048576" in outcome.out
    assert "at offset 0" not in outcome.out
    assert verbs(registry) == [("accept_outdated", "a", "1048576", "4096")]


def test_accept_outdated_lists_whole_regions_since_whole_regions_are_accepted(
    command_line: CommandLine, registry: FakeRegistry, outdated: dict[str, Any]
) -> None:
    command_line.answer = "y\n"
    command_line("accept-outdated", "a", "--offset", "1048577", "--length", "1")
    assert verbs(registry) == [("accept_outdated", "a", "1048576", "4096")]


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_accept_outdated_without_a_yes_does_nothing(
    command_line: CommandLine, registry: FakeRegistry, outdated: dict[str, Any], answer: str
) -> None:
    command_line.answer = answer
    assert command_line("accept-outdated", "a").status == 1
    assert verbs(registry) == []


def test_accept_outdated_in_a_script_accepts_the_range(
    command_line: CommandLine, registry: FakeRegistry, outdated: dict[str, Any]
) -> None:
    assert command_line("accept-outdated", "a", "--length", "4k", "--yes").status == 0
    assert registry.calls == [("accept_outdated", "a", "0", "4096")]


def test_accept_outdated_where_nothing_is_says_so_and_does_nothing(
    command_line: CommandLine, registry: FakeRegistry, volume: dict[str, Any]
) -> None:
    outcome = command_line("accept-outdated", "a")
    assert (outcome.status, outcome.out) == (0, "Nothing is outdated there; nothing was changed.\n")
    assert verbs(registry) == []
    assert command_line("accept-outdated", "a", "--yes").out.endswith("nothing was changed.\n")


def test_accept_outdated_beyond_what_is_listed_says_that_there_is_more(
    command_line: CommandLine, registry: FakeRegistry, outdated: dict[str, Any]
) -> None:
    outdated["regions"]["outdated"] = 5
    command_line.answer = "y\n"
    outcome = command_line("accept-outdated", "a")
    assert outcome.out.endswith("More is outdated. Run this again to see it.\n")
    outcome = command_line("accept-outdated", "a")  # the fake lists no more
    assert "they are not listed: there are too many" in outcome.out
    assert verbs(registry)[-1] == ("accept_outdated", "a", "0", "None")


@pytest.mark.parametrize(("listed", "more"), [(512, False), (4096, False), (0, True)])
def test_short_last_region_does_not_count_as_more(
    outdated: dict[str, Any], listed: int, more: bool
) -> None:
    outdated["outdated_extents"] = [[SIZE - 4096, listed]] if listed else []
    outdated["regions"]["outdated"] = 1
    assert has_unlisted_outdated(cast(VolumeStatus, outdated)) is more


def test_accept_outdated_of_a_closed_volume_asks_nothing(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = {"volume": "a", "state": "closed", "advice": "Serve it."}
    outcome = command_line("accept-outdated", "a")
    assert outcome.status == 5
    assert "is not being served" in outcome.out + outcome.err
    assert verbs(registry) == []
