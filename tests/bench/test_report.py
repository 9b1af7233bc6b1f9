"""The pure parts of the benchmark: ratios, the report's form, and what the tools' output means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bench.host_access import Parts
from tests.bench.merging import parse_merge
from tests.bench.readings import parse_bus_status, parse_fio, parse_iscsi_perf
from tests.bench.report import (
    Bar,
    Figure,
    MeasurementError,
    Pair,
    format_line,
    format_report,
    format_table,
    summarize,
)
from tests.bench.workload import FioJob, Part

BAR = Bar("reads", "thin", "somebody", "IOPS")
KEYS = ["bar", "link", "ours", "peer", "peer_name", "unit"]
KEYS += ["ratio_median", "ratio_min", "ratio_max"]


def figure() -> Figure:
    return summarize(BAR, [Pair(10, 20), Pair(30, 10), Pair(40, 40)])


def fio_output(**changes: Any) -> str:
    side = {"iops": 250.5, "bw_bytes": 1026048, "io_bytes": 4104192, "lat_ns": {"mean": 4e6}}
    job = {"jobname": "bench", "error": 0, "read": side, "write": dict(side, io_bytes=0)}
    document = {"fio version": "fio-3.39", "jobs": [job | changes]}
    return f"note: both iodepth\n{json.dumps(document)}\n"


def merge_output(lost: int = 0, merged: int = 8000) -> str:
    status = {"regions": {"lost": lost}, "counters": {"bytes_merged": merged}}
    answer = json.dumps({"type": "s", "data": [json.dumps(status)]})
    return f"100.5 101.0 103.0\n{answer}\n"


def test_figure_has_medians_of_sides_and_spread_of_ratios() -> None:
    result = figure()
    assert (result.ours, result.peer) == (30, 20)
    assert (result.ratio_median, result.ratio_min, result.ratio_max) == (1.0, 0.5, 3.0)


def test_figure_keeps_four_digits_of_small_and_large_numbers() -> None:
    result = summarize(BAR, [Pair(0.000123456, 123456.7)] * 3)
    assert (result.ours, result.peer) == (0.0001235, 123500)


def test_figure_of_too_few_rounds_fails() -> None:
    with pytest.raises(MeasurementError, match="at least 3"):
        summarize(BAR, [Pair(1, 1), Pair(1, 1)])


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_figure_of_what_is_no_measurement_fails(bad: float) -> None:
    for pair in (Pair(bad, 1), Pair(1, bad)):
        with pytest.raises(MeasurementError, match="not a positive number"):
            summarize(BAR, [Pair(1, 1), pair, Pair(1, 1)])


def test_report_is_a_list_of_objects_with_exactly_the_agreed_keys() -> None:
    (entry,) = json.loads(format_report([figure()]))
    assert list(entry) == KEYS
    assert entry["bar"] == "reads"
    assert entry["peer_name"] == "somebody"


def test_table_has_a_line_for_each_figure() -> None:
    lines = format_table([figure(), figure()]).splitlines()
    assert len(lines) == 4
    assert "1.00 (0.50 .. 3.00)" in lines[2]
    assert lines[2] == lines[3]


def test_line_names_the_figure_and_its_spread() -> None:
    line = format_line(figure())
    assert line == "reads (thin): 30 and 20 IOPS, 1.00 (0.50 .. 3.00)"


def test_fio_report_is_read_behind_notes() -> None:
    result = parse_fio(fio_output(), "read")
    assert result.commands_per_second == 250.5
    assert result.bytes_per_second == 1026048
    assert result.mean_latency_seconds == pytest.approx(0.004)
    assert result.bytes_moved == 4104192


@pytest.mark.parametrize(
    ("output", "direction"),
    [
        ("fio: No such file", "read"),
        ("{}", "read"),
        ('{"jobs": []}', "read"),
        (fio_output(error=5), "read"),
        (fio_output(), "write"),
    ],
)
def test_fio_failure_is_no_measurement(output: str, direction: str) -> None:
    with pytest.raises(MeasurementError):
        parse_fio(output, direction)


def test_iscsi_perf_counts_its_last_average() -> None:
    output = "iops average 5 (5 MB/s)\riops average 70 (70 MB/s)  \r\n\nfinished.\n"
    assert parse_iscsi_perf(output, 1000) == 70000
    with pytest.raises(MeasurementError):
        parse_iscsi_perf("Failed to connect", 1000)


@pytest.mark.parametrize("line", ["", "{}", '{"type": "s", "data": []}', '{"data": ["1"]}'])
def test_bus_answer_that_is_no_status_is_no_measurement(line: str) -> None:
    with pytest.raises(MeasurementError):
        parse_bus_status(line)


def test_merge_rate_begins_with_merge_and_time_with_attachment() -> None:
    run = parse_merge(merge_output())
    assert run.seconds_in_all == pytest.approx(2.5)
    assert run.bytes_per_second == pytest.approx(4000)
    assert run.merged == 8000


@pytest.mark.parametrize("output", ["", "no numbers\n{}", merge_output(lost=1), merge_output(0, 0)])
def test_merge_that_did_not_end_is_no_measurement(output: str) -> None:
    with pytest.raises(MeasurementError):
        parse_merge(output)


def test_parts_are_disjoint_and_end_with_the_device() -> None:
    parts = Parts(100)
    assert [parts.take(40), parts.take(60)] == [Part(0, 40), Part(40, 60)]
    with pytest.raises(AssertionError):
        parts.take(1)


def test_fio_job_touches_only_its_part_and_repeats_only_if_asked() -> None:
    job = FioJob("randwrite", 4096, 16, 4.0)
    words = job.command("/dev/x", Part(8192, 65536)).split()
    assert {"--offset=8192", "--size=65536", "--iodepth=16", "--time_based"} <= set(words)
    assert (job.direction, job.title) == ("write", "4 KiB random write, depth 16")
    once = FioJob("read", 262144, 4, 4.0, repeats=False)
    assert "--time_based" not in once.command("/dev/x", Part(0, 65536))
    assert (once.direction, once.title) == ("read", "256 KiB sequential read, depth 4")
