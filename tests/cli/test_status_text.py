"""Words for numbers; nothing is claimed that was not measured."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tcmu_restore.cli import status_text as text
from tcmu_restore.service.registry_seam import VolumeStatus
from tests.service.fake_registry import make_status


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


def test_status_without_counters_says_so() -> None:
    rows = dict(text.status_rows(volume(counters={})))
    assert (rows["served"], rows["kept"]) == ("no reads yet", "no regions yet")


def test_regions_name_only_what_is_not_as_it_should_be() -> None:
    regions = {"total": 4, "current": 3, "lost": 1, "stale": 0, "in_doubt": 1, "host_written": 0}
    rows = dict(text.status_rows(volume(regions=regions)))
    assert rows["regions"] == "75 % current, 1 lost, 1 in doubt (of 4, 4 KiB each)"


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


def test_closed_volume_has_little_to_say() -> None:
    closed = cast(VolumeStatus, {"volume": "a", "state": "closed", "advice": "Serve it."})
    assert text.status_lines(closed) == ["  volume  a", "   state  closed", "", "Serve it."]
