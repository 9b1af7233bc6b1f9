"""Reads what fio, iscsi-perf and busctl print. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.bench.report import MeasurementError

_IOPS_AVERAGE = re.compile(r"iops average (\d+)")
_SHOWN = 400  # characters of an output that is not understood


@dataclass(frozen=True, slots=True)
class FioResult:
    """One direction of one fio job."""

    commands_per_second: float
    bytes_per_second: float
    mean_latency_seconds: float
    bytes_moved: int


def parse_fio(output: str, direction: str) -> FioResult:
    """Read fio's JSON; *direction* is ``read`` or ``write``. Notes before the JSON are passed over.

    Raises:
        MeasurementError: it is no report of exactly one job, the job failed, or it moved nothing.
    """
    try:
        (job,) = json.loads(output[output.index("{") :])["jobs"]
        error, side = int(job["error"]), job[direction]
        result = FioResult(
            commands_per_second=float(side["iops"]),
            bytes_per_second=float(side["bw_bytes"]),
            mean_latency_seconds=float(side["lat_ns"]["mean"]) / 1e9,
            bytes_moved=int(side["io_bytes"]),
        )
    except (ValueError, KeyError, TypeError) as failure:
        raise MeasurementError(f"fio did not report: {output[:_SHOWN]}") from failure
    if error or not result.bytes_moved:
        raise MeasurementError(f"fio failed, error {error}, {result.bytes_moved} bytes moved")
    return result


def parse_iscsi_perf(output: str, block_size: int) -> float:
    """Return bytes a second of a run of iscsi-perf with commands of *block_size* bytes.

    Raises:
        MeasurementError: it printed no average.
    """
    found = _IOPS_AVERAGE.findall(output)
    if not found:
        raise MeasurementError(f"iscsi-perf did not report: {output[-_SHOWN:]}")
    return int(found[-1]) * float(block_size)


def parse_bus_status(line: str) -> dict[str, Any]:
    """Return the status document of a volume from the service's answer to Status.

    Raises:
        MeasurementError: it is no such answer.
    """
    try:
        document = json.loads(json.loads(line)["data"][0])
    except (ValueError, KeyError, IndexError, TypeError) as failure:
        raise MeasurementError(f"not an answer to Status: {line[:_SHOWN]}") from failure
    if not isinstance(document, dict):
        raise MeasurementError(f"not a status document: {line[:_SHOWN]}")
    return document
