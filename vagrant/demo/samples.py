"""What the probes in the machines logged, as values with the host's time. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Latency:
    """One read of the LUN by the initiator. It failed if there are no milliseconds."""

    time: float
    milliseconds: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """The volume and the links at one moment. Reads and bytes only grow."""

    time: float
    state: str
    local_reads: int
    remote_reads: int
    lost: int
    total: int
    thin_bytes: int
    bulk_bytes: int
    merge: dict[str, Any]

    @property
    def fraction_current(self) -> float:
        """How much of the new disk is current, 0 to 1."""
        return 1 - self.lost / self.total if self.total else 0.0

    @property
    def merge_state(self) -> str:
        """What the merge is doing: idle, running, paused, done."""
        return str(self.merge["state"])


def parse_lines(text: str) -> tuple[list[dict[str, Any]], str]:
    """Return the JSON objects of all complete lines, and what is left of an incomplete one."""
    *lines, rest = text.split("\n")
    return [json.loads(line) for line in lines if line], rest


def parse_latencies(entries: Iterable[dict[str, Any]], clock: float) -> list[Latency]:
    """Return the reads of the initiator's log; *clock* is how far its clock is ahead."""
    return [
        Latency(entry["t"] - clock, entry.get("ms"))
        for entry in entries
        if "ms" in entry or "error" in entry
    ]


def parse_samples(entries: Iterable[dict[str, Any]], clock: float) -> list[Sample]:
    """Return the samples of the watcher's log; a moment without an answer has none."""
    return [
        Sample(
            time=entry["t"] - clock,
            state=entry["state"],
            local_reads=entry["reads_from_primary"],
            remote_reads=entry["reads_from_backup"] + entry["reads_from_snapshot"],
            lost=entry["lost"],
            total=entry["total"],
            thin_bytes=entry["thin"],
            bulk_bytes=entry["bulk"],
            merge=entry["merge"],
        )
        for entry in entries
        if "error" not in entry
    ]


def windows(samples: list[Sample], seconds: float) -> Iterator[tuple[Sample, Sample]]:
    """Yield each sample with an earlier one about *seconds* before it."""
    first = 0
    for last, sample in enumerate(samples):
        while samples[first].time < sample.time - seconds and first < last - 1:
            first += 1
        if first < last:
            yield samples[first], sample


def local_share(samples: list[Sample], seconds: float) -> list[tuple[float, float]]:
    """Return (time, percent) of host reads served by the primary, over sliding windows."""
    points = []
    for before, after in windows(samples, seconds):
        local = after.local_reads - before.local_reads
        remote = after.remote_reads - before.remote_reads
        if local + remote:
            points.append((after.time, 100 * local / (local + remote)))
    return points


def link_rates(samples: list[Sample], seconds: float) -> list[tuple[float, float, float]]:
    """Return (time, thin, bulk) in MiB/s over sliding windows."""
    return [
        (
            after.time,
            (after.thin_bytes - before.thin_bytes) / (after.time - before.time) / (1 << 20),
            (after.bulk_bytes - before.bulk_bytes) / (after.time - before.time) / (1 << 20),
        )
        for before, after in windows(samples, seconds)
        if after.time > before.time
    ]


def median_latency(latencies: list[Latency], begin: float, end: float) -> float | None:
    """Return the median of the reads sent between two moments, in milliseconds."""
    found = sorted(
        item.milliseconds
        for item in latencies
        if item.milliseconds is not None and begin <= item.time < end
    )
    return found[len(found) // 2] if found else None
