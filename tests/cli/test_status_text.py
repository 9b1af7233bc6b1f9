"""Words for numbers; nothing is claimed that was not measured."""

from __future__ import annotations

import io
from typing import Any, cast

import pytest
from rich.console import Console

from tcmu_restore.cli import condition
from tcmu_restore.cli import status_text as text
from tcmu_restore.cli.status_view import print_overview
from tcmu_restore.service.registry_seam import VolumeStatus
from tcmu_restore.units import format_size
from tests.service.fake_registry import HEAT, RESYNC, conditions, make_status


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (100, "1 min 40 s"),
        (3599, "59 min"),
        (3600, "1 h"),
        (9000, "2 h 30 min"),
        (200_000, "2 d 7 h"),
        (2_000_000, "23 d"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert text.format_duration(seconds) == words


def test_percent_is_full_only_when_nothing_is_missing() -> None:
    assert text.format_percent(0.9999999) == "99 %"
    assert text.format_percent(1.0) == "100 %"
    assert text.format_bar(0.9999999, width=4) == "[###-]"
    assert text.format_bar(1.5, width=4) == "[####]"


def volume(**changes: Any) -> VolumeStatus:
    return cast(VolumeStatus, make_status("a", **changes))


def test_merge_without_an_estimate_claims_none() -> None:
    merge = volume()["merge"]
    merge.update({"state": "running", "bytes_total": 1024})
    assert text.merge_line(merge, bar_width=4) == (
        "running [----] 0 %, 0 B of 1 KiB, -, time left unknown"
    )


def test_merge_that_failed_says_why_and_has_no_rate() -> None:
    merge = volume()["merge"]
    merge.update({"state": "failed", "bytes_total": 2, "bytes_done": 1, "reason": "gone"})
    assert text.merge_line(merge, bar_width=4) == "failed [##--] 50 %, 1 B of 2 B, gone"


def test_unreachable_sources_say_why() -> None:
    status = volume(snapshot={"source": "/dev/s", "reachable": False, "reason": None})
    status["backup"].update({"reachable": False, "reason": "no route"})
    rows = dict(text.status_rows(status))
    assert rows["backup"] == "iscsi://backup/iqn.a/0 (not reachable: no route)"
    assert rows["snapshot"] == "/dev/s (not reachable: no reason known)"


def test_snapshot_of_a_part_says_how_much_it_covers() -> None:
    part = {"extents": [[0, 65536]], "bytes_covered": 65536}
    status = volume(snapshot={"source": "/dev/s", "reachable": True, "reason": None} | part)
    size = format_size(status["size"])
    rows = dict(text.status_rows(status))
    assert rows["snapshot"] == f"/dev/s, covers 64 KiB of {size} (reachable)"


RESTORE: Any = {
    "error": "",
    "host": "backup1",
    "origin": "block/v",
    "snapshot": "restore-a",
    "step": "delete",
    "began": "2026-11-23T00:00:00+00:00",
    "go_on": "tcmu-restore restore-from a",
    "remove": "tcmu-restore restore-from a --abort",
}


def test_unfinished_restore_is_a_row_with_both_commands() -> None:
    words = dict(text.status_rows(volume(restore_from=RESTORE)))["restore"]
    assert words.startswith("snapshot restore-a of block/v on backup1, next step delete")
    assert words.endswith(f"go on: {RESTORE['go_on']}; remove: {RESTORE['remove']}")
    damaged = {"error": "The record cannot be used.", "go_on": "x", "remove": "y"}
    row = dict(text.status_rows(volume(restore_from=damaged)))["restore"]
    assert row == "The record cannot be used. (go on: x; remove: y)"


def test_unfinished_restore_is_told_below_the_overview_also_of_a_closed_volume() -> None:
    console = Console(file=io.StringIO(), width=60)
    closed: Any = {"volume": "b", "state": "closed", "advice": "", "restore_from": RESTORE}
    print_overview(console, [volume(restore_from=None), closed])
    said = cast(io.StringIO, console.file).getvalue()
    assert "b: unfinished restore: snapshot restore-a" in said
    assert said.count("unfinished") == 1


def test_status_without_counters_says_so() -> None:
    rows = dict(text.status_rows(volume(counters={})))
    assert (rows["served"], rows["kept"]) == ("no reads yet", "no regions yet")


def test_regions_name_only_what_is_not_as_it_should_be() -> None:
    regions = {"total": 4, "current": 3, "lost": 1, "stale": 0, "in_doubt": 1, "host_written": 0}
    rows = dict(text.status_rows(volume(regions=regions)))
    assert rows["regions"] == "75 % current, 1 lost (4 KiB), 1 in doubt (4 KiB), of 4 (4 KiB each)"


def test_merge_that_waits_says_for_what_instead_of_a_time() -> None:
    merge = volume()["merge"]
    merge.update({"state": "running", "bytes_total": 2, "reason": "backup: no route"})
    merge["seconds_left"] = 3.0
    assert text.merge_line(merge, bar_width=2) == (
        "running [--] 0 %, 0 B of 2 B, -, backup: no route"
    )


def test_failed_primary_says_why() -> None:
    primary = {"path": "/dev/p", "state": "failed", "reason": "it vanished"}
    assert dict(text.status_rows(volume(primary=primary)))["primary"] == (
        "/dev/p (failed: it vanished)"
    )


def test_what_hosts_use_most_is_told_with_how_much_of_it_is_local() -> None:
    rows = dict(text.status_rows(volume(heat=HEAT)))
    assert rows["hot"] == "100 MiB are used most, 98 % of it current"
    assert "hot" not in dict(text.status_rows(volume(heat=HEAT | {"hot_bytes": 0})))


def test_closed_volume_has_little_to_say() -> None:
    closed = cast(VolumeStatus, {"volume": "a", "state": "closed", "advice": "Serve it."})
    assert text.status_lines(closed) == ["  volume  a", "   state  closed", "", "Serve it."]


# --- conditions and what to do next ---------------------------------------------------------


def test_every_condition_stands_in_the_state_row_and_has_its_own_advice() -> None:
    status = volume(state="in_doubt", conditions=conditions("degraded", "in_doubt"))
    assert dict(text.status_rows(status))["state"] == "degraded, in doubt"
    assert condition.next_steps(status) == [
        "degraded: What to do when degraded.",
        "in doubt: What to do when in_doubt.",
    ]


def test_only_condition_needs_no_name_before_its_advice() -> None:
    status = volume(conditions=conditions("in_sync"))
    assert condition.next_steps(status) == ["What to do when in_sync."]


def test_condition_without_advice_is_not_a_step() -> None:
    silent = [{"name": "degraded", "advice": "Look."}, {"name": "restoring", "advice": ""}]
    assert condition.next_steps(volume(conditions=silent)) == ["Look."]
    assert condition.next_steps(volume(conditions=silent[1:])) == []


def test_service_that_knows_one_state_only_is_understood() -> None:
    status = volume()
    assert "conditions" not in status
    assert condition.next_steps(status) == [status["advice"]]


def test_returned_disk_comes_with_the_command_to_type() -> None:
    primary = {"path": "/dev/my disk", "state": "failed", "reason": "EIO", "returned": True}
    status = volume(primary=primary, conditions=conditions("diskless"))
    assert dict(text.status_rows(status))["primary"] == "/dev/my disk (failed: EIO; it is back)"
    assert condition.next_steps(status)[-1] == (
        "The failed disk is back. Give it to the volume again with: "
        "tcmu-restore replace-primary a --primary '/dev/my disk'"
    )
    steps = condition.next_steps(status, replace_command="replace_primary")
    assert steps[-1].endswith("with: replace_primary '/dev/my disk'")
    primary["returned_path"] = "/dev/other"
    assert condition.next_steps(status)[-1].endswith("--primary /dev/other")
    primary["returned"] = False
    assert len(condition.next_steps(status)) == 1


def test_carried_snapshot_comes_with_the_command_to_type_or_why_not() -> None:
    offer = {"path": "/mnt/my disk/a", "taken": "2026-01-02T03:04:05+00:00", "problem": ""}
    old = {"path": "/mnt/old", "taken": "2025-01-02T03:04:05+00:00", "problem": "it is old"}
    status = volume(shipped=[offer, old], conditions=conditions("restoring"))
    _, good, bad = condition.next_steps(status)
    what = "A snapshot of this volume, exported 2026-01-02T03:04:05+00:00, is here."
    assert good == f"{what} Use it with: tcmu-restore attach-snapshot a '/mnt/my disk/a'"
    assert bad.endswith("is here at /mnt/old, but it is old.")
    assert "attach" not in bad
    steps = condition.next_steps(status, attach_command="attach_snapshot")
    assert steps[1].endswith("with: attach_snapshot '/mnt/my disk/a'")


def test_outdated_extents_are_shown_as_far_as_there_is_room() -> None:
    extents = [[4096 * index, 4096] for index in range(3)]
    rows = dict(text.status_rows(volume(outdated_extents=extents)))
    shown = "4 KiB at offset 0; 4 KiB at offset 4096; 4 KiB at offset 8192"
    assert rows["outdated"] == shown
    rows = dict(text.status_rows(volume(outdated_extents=[*extents, [65536, 1]])))
    assert rows["outdated"] == f"{shown}; and more"
    assert "outdated" not in dict(text.status_rows(volume(outdated_extents=[])))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "running, 12 MiB left, 3 MiB/s, 4 s left"),
        ({"seconds_left": None}, "running, 12 MiB left, 3 MiB/s, time left unknown"),
        ({"state": "paused"}, "paused, 12 MiB left"),
        ({"state": "waiting", "reason": "no route"}, "waiting, 12 MiB left, no route"),
        ({"state": "idle"}, None),
    ],
)
def test_resync_shows_what_is_left_unless_it_is_idle(
    changes: dict[str, Any], words: str | None
) -> None:
    assert dict(text.status_rows(volume(resync=RESYNC | changes))).get("resync") == words


def test_mirror_mode_stands_beside_the_backup() -> None:
    status = volume(mirror="strict")
    backup = "iscsi://backup/iqn.a/0"
    assert dict(text.status_rows(status))["backup"] == (
        f"{backup} (reachable, 0.5 ms, mirror strict)"
    )
    status["backup"].update({"reachable": False, "reason": "no route"})
    assert dict(text.status_rows(status))["backup"] == (
        f"{backup} (not reachable: no route, mirror strict)"
    )


def test_damaged_state_file_is_shown_with_the_way_out() -> None:
    state_file = {"path": "/s/a.db", "error": "a bad page"}
    closed = {"volume": "a", "state": "closed", "advice": "Look.", "state_file": state_file}
    status = cast(VolumeStatus, closed)
    assert text.status_lines(status) == [
        "  volume  a",
        "   state  closed",
        " kept in  /s/a.db (a bad page)",
        "",
        "Look.",
        "The state file cannot be used. Make it anew, at the cost that it says, with: "
        "tcmu-restore state rebuild a",
    ]
    status["advice"] = "Run: tcmu-restore state rebuild a"
    assert text.status_lines(status)[-1] == "Run: tcmu-restore state rebuild a"
    state_file["error"] = ""
    assert len(text.status_lines(status)) == 4


def test_state_file_that_cannot_be_written_just_now_is_not_to_be_made_anew() -> None:
    state_file = {"path": "/s/a.db", "error": "no space"}
    status = volume(state_file=state_file, conditions=conditions("state_full", "restoring"))
    assert dict(text.status_rows(status))["kept in"] == "/s/a.db (no space)"
    assert "rebuild" not in " ".join(condition.next_steps(status))


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"state": "down", "reason": "", "take_down": ""}, "down"),
        (
            {"state": "up", "reason": "", "take_down": "tcmu-restore link down a"},
            "up; take it down with: tcmu-restore link down a",
        ),
        (
            {"state": "unknown", "reason": "", "take_down": "tcmu-restore link down a"},
            "perhaps up; take it down with: tcmu-restore link down a",
        ),
        (
            {"state": "unknown", "reason": "It failed.", "take_down": "x"},
            "perhaps up: It failed.",
        ),
    ],
)
def test_link_that_is_up_is_shown_with_what_takes_it_down(link: dict[str, str], said: str) -> None:
    rows = dict(text.status_rows(volume(bulk_link=link)))
    assert rows["link"] == said
    closed = {"volume": "a", "state": "closed", "advice": "", "bulk_link": link}
    assert dict(text.status_rows(cast(VolumeStatus, closed)))["link"] == said


def test_source_is_shown_with_what_was_measured() -> None:
    snapshot = {
        "source": "/s",
        "reachable": True,
        "reason": "",
        "read_latency_ms": 12.5,
        "read_rate_bytes_per_second": 3 * 1024.0,
        "asked_first": True,
    }
    rows = dict(text.status_rows(volume(snapshot=snapshot)))
    assert rows["snapshot"] == "/s (reachable, 12.5 ms, 3 KiB/s, asked first)"
