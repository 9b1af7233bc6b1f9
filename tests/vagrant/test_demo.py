"""The demo's readers, judge and picture, on logs made here."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vagrant.demo.events import Events
from vagrant.demo.plot import draw
from vagrant.demo.report import CLEAN, Report, summarize_fsck
from vagrant.demo.samples import (
    Latency,
    Sample,
    link_rates,
    local_share,
    median_latency,
    parse_latencies,
    parse_lines,
    parse_samples,
)
from vagrant.demo.screen import Screen, Snapshot
from vagrant.demo.story import find_line

MIB = 1 << 20
KEYS = {
    "lun_online_seconds", "reads_from_backup", "reads_from_primary", "regions_total",
    "regions_populated", "regions_host_written", "regions_merged", "regions_skipped_current",
    "bytes_on_thin_link", "bytes_on_bulk_link", "fsck", "sha256_primary", "sha256_backup",
    "sha256_initiator", "equal", "seconds", "verdict",
}  # fmt: skip


def make_sample(time: float, local: int, remote: int, *, state: str = "running") -> Sample:
    merge = {"state": state, "reason": "", "rate_bytes_per_second": 2.5 * MIB, "seconds_left": 8.2}
    return Sample(
        time=time,
        state="restoring",
        local_reads=local,
        remote_reads=remote,
        lost=25,
        total=100,
        thin_bytes=int(time * MIB),
        bulk_bytes=int(time * 3 * MIB),
        merge=merge,
    )


def make_report(**changes: Any) -> Report:
    counters = dict.fromkeys(
        (
            "reads_from_backup",
            "reads_from_primary",
            "regions_populated",
            "regions_merged",
            "regions_skipped_current",
        ),
        7,
    )
    counters |= {"regions_merged": 88, "regions_zeroed": 0}
    report = Report(
        lun_online_seconds=1.23456,
        create_seconds=None,
        status={
            "regions": {"total": 100, "lost": 0, "host_written": 5},
            "merge": {"state": "done"},
            "counters": counters,
        },
        state_before_cut="in_sync",
        bytes_on_thin_link=10,
        bytes_on_bulk_link=20,
        fsck=CLEAN,
        sha256_primary="a" * 64,
        sha256_backup="a" * 64,
        sha256_initiator="a" * 64,
        remote_reads_after_cut=0,
        files_verified_after_cut=3,
        failed_reads=0,
        seconds=100.04,
    )
    return replace(report, **changes)


def test_lines_with_an_unfinished_one_keep_its_beginning() -> None:
    entries, rest = parse_lines('{"t": 1}\n{"t": 2}\n{"t"')
    assert entries == [{"t": 1}, {"t": 2}]
    assert rest == '{"t"'


def test_latencies_are_in_the_hosts_time_and_failures_have_no_duration() -> None:
    log: list[dict[str, Any]] = [
        {"waiting": 1.0},
        {"online": 2.0},
        {"t": 3.5, "ms": 4.0},
        {"t": 4.5, "error": "gone"},
    ]
    assert parse_latencies(log, 0.5) == [Latency(3.0, 4.0), Latency(4.0, None)]


def test_samples_without_an_answer_are_left_out() -> None:
    entry = {
        "t": 10.0, "state": "in_sync", "reads_from_primary": 3, "reads_from_backup": 2,
        "reads_from_snapshot": 1, "lost": 0, "total": 9, "thin": 5, "bulk": 6,
        "merge": {"state": "done"},
    }  # fmt: skip
    (sample,) = parse_samples([{"t": 9.0, "error": "no answer"}, entry], 1.0)
    assert (sample.time, sample.local_reads, sample.remote_reads) == (9.0, 3, 3)
    assert sample.fraction_current == 1.0
    assert sample.merge_state == "done"


def test_local_share_is_that_of_the_window_and_silent_without_reads() -> None:
    samples = [make_sample(0, 0, 0), make_sample(1, 1, 3), make_sample(2, 1, 3)]
    samples += [make_sample(3, 4, 3), make_sample(4, 8, 3)]
    assert local_share(samples, 1.0) == [(1, 25.0), (3, 100.0), (4, 100.0)]


def test_link_rates_are_mebibytes_a_second() -> None:
    rates = link_rates([make_sample(0, 0, 0), make_sample(2, 0, 0)], 1.0)
    assert rates == [(2, 1.0, 3.0)]


def test_median_of_a_span_without_reads_is_none() -> None:
    latencies = [Latency(0, 5.0), Latency(1, 1.0), Latency(2, None), Latency(3, 9.0)]
    assert median_latency(latencies, 0, 4) == 5.0
    assert median_latency(latencies, 10, 20) is None


def test_report_of_a_good_run_has_every_key_and_verdict_ok(tmp_path: Path) -> None:
    make_report().write(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert set(written) >= KEYS
    assert written["verdict"] == "ok"
    assert written["equal"] is True
    assert written["lun_online_seconds"] == 1.235


@pytest.mark.parametrize(
    "changes",
    [
        {"fsck": "errors"},
        {"sha256_backup": "b" * 64},
        dict.fromkeys(("sha256_primary", "sha256_backup", "sha256_initiator"), ""),
        {"state_before_cut": "resyncing"},
        {"remote_reads_after_cut": 1},
        {"files_verified_after_cut": 0},
        {"failed_reads": 1},
        {"bytes_on_bulk_link": 0},
    ],
)
def test_report_with_a_broken_promise_fails(changes: dict[str, Any]) -> None:
    report = make_report(**changes)
    assert len(report.problems()) == 1
    assert report.as_dict()["verdict"].startswith("failed: ")


def test_report_misses_regions_that_no_counter_knows() -> None:
    report = make_report()
    assert report.unaccounted == 0
    report.status["counters"]["regions_merged"] = 80
    assert report.problems() == ["8 regions are in no counter"]


def test_fsck_is_clean_only_with_status_0() -> None:
    assert summarize_fsck(0, "a lot of words") == CLEAN
    assert summarize_fsck(4, " bad block \n") == "bad block"
    assert summarize_fsck(8, "") == "status 8"


def test_events_are_relative_and_in_order() -> None:
    said: list[str] = []
    events = Events(said.append)
    events.note("online", 12.0)
    events.note("create", 10.0)
    events.note("replaced", 9.5)
    assert list(events.relative_to("create").items()) == [
        ("replaced", -0.5),
        ("create", 0.0),
        ("online", 2.0),
    ]
    assert said == ["online", "create", "replaced"]


def test_line_of_the_shell_is_found_with_its_time() -> None:
    log = "5.25 /> Created volume vol0 size 3.\n6.5 /> Created volume again\n"
    assert find_line(log, "Created volume") == 5.25
    assert find_line(log, "Attached.") is None


def test_screen_without_a_terminal_prints_plain_lines() -> None:
    output = io.StringIO()
    screen = Screen(Console(file=output, width=200))
    with screen.live():
        screen.show(
            Snapshot(
                sample=make_sample(1, 3, 1),
                share_percent=75.0,
                latency=Latency(1, 4.0),
                files={"verified": 2},
            )
        )
    text = output.getvalue()
    assert "75 % served locally, 3 reads from primary, 1 from backup" in text
    assert "2 files verified" in text
    assert "75 % current, 2.5 MiB/s, 8 s left" in text


def test_picture_is_drawn_from_whatever_was_logged(tmp_path: Path) -> None:
    for latencies, samples in (
        ([], []),
        ([Latency(1, 3.0), Latency(2, None)], [make_sample(1, 1, 1), make_sample(2, 2, 2)]),
    ):
        path = tmp_path / f"{len(samples)}.png"
        events = {"create": 0.0, "LUN online": 1.0, "merge done": 1.1}
        draw(path, latencies=latencies, samples=samples, events=events, origin=0.0, title="A title")
        assert path.stat().st_size > 10_000
