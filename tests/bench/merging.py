"""The way back: merge rate, time until everything is local, bytes on the links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tcmu_restore.units import KiB, MiB
from tests.bench.effort import Effort
from tests.bench.readings import parse_bus_status, parse_fio
from tests.bench.report import Bar, Figure, MeasurementError, Pair, summarize
from tests.bench.rig import bus_call, make_data, volume
from tests.bench.workload import FioJob, Part, iscsi_perf_command, read_perf, run_fio
from vagrant.lab import Lab
from vagrant.scene import Scene

_Read = TypeVar("_Read")

BULK = "bulk, unshaped"
PERF = "iscsi-perf, 1 MiB, depth 8"

# The end comes as a signal: to ask again and again would take the processor from the merge.
_MERGE = """exec 3< <(exec busctl monitor --json=short --match member=StateChanged)
monitor=$!
sleep 2 # it listens now
begin=$EPOCHREALTIME
{attach} >/dev/null
merge=$EPOCHREALTIME
{start} >/dev/null
while read -r -t 120 -u 3 line; do [[ $line != *in_sync* ]] || break; done
echo "$begin $merge $EPOCHREALTIME"
kill $monitor
{status}
"""

_UNDER_LOAD = """count_reads() {{
  read -r count rest </sys/block/{disk}/stat
  echo $count
}}
before=$(count_reads)
{load} >/run/bench-load &
load=$!
until [ $(count_reads) -gt $((before + 20)) ]; do kill -0 $load; sleep 0.1; done
{script}
kill -0 $load
kill -INT $load
wait $load || true
cat /run/bench-load"""


@dataclass(frozen=True, slots=True)
class MergeRun:
    """One merge from its first command to its end."""

    seconds_in_all: float
    bytes_per_second: float
    merged: int


@dataclass(frozen=True, slots=True)
class _Round:
    merge: MergeRun
    traffic: int
    perf: float


class MergeBench:
    """Measures merges of one backup and its snapshot, each into a volume made afresh."""

    def __init__(self, lab: Lab, effort: Effort) -> None:
        self._lab = lab
        self._effort = effort
        self.scene = Scene(lab, "merged", effort.volume_size)

    def set_up(self) -> None:
        """Make the backup, its snapshot and the disk that is merged to."""
        self.scene.make_backup(make_data(self._effort.data_size // MiB))
        self.scene.take_snapshot()
        self.scene.add_blank_disk()

    def measure_alone(self) -> Iterator[Figure]:
        """Merge with nothing else going on; the three figures come from the same rounds."""
        rounds = [self._run_round() for _ in range(self._effort.rounds)]
        rates = [Pair(each.merge.bytes_per_second / MiB, each.perf / MiB) for each in rounds]
        size = self.scene.size
        times = [Pair(each.merge.seconds_in_all, size / each.perf) for each in rounds]
        data = self._effort.data_size / MiB
        traffic = [Pair(each.traffic / MiB, data) for each in rounds]
        yield summarize(Bar("merge rate, alone", BULK, PERF, "MiB/s"), rates)
        yield summarize(Bar("time until all is local", BULK, f"size / {PERF}", "s"), times)
        bar = Bar("bytes received", "thin + bulk", "lost bytes with data", "MiB")
        yield summarize(bar, traffic)

    def measure_under_load(self) -> Figure:
        """Merge, and read the snapshot with the peer, while a host reads lost bytes."""
        pairs = []
        for _ in range(self._effort.rounds):
            with volume(self.scene) as device:
                perf = self._under_load(device, 0, self._perf_script(), read_perf)
                half = self._effort.data_size // 2
                merge = self._under_load(device, half, self._merge_script(), parse_merge)
            pairs.append(Pair(merge.bytes_per_second / MiB, perf / MiB))
        return summarize(Bar("merge rate, while a host reads", BULK, PERF, "MiB/s"), pairs)

    def restored(self) -> AbstractContextManager[str]:
        """Return a volume that is to be merged wholly by `merge`."""
        return volume(self.scene)

    def merge(self) -> MergeRun:
        """Attach the snapshot, merge all, and return how fast that was."""
        return parse_merge(self._lab.primary.run(self._merge_script(), timeout_seconds=180))

    def _run_round(self) -> _Round:
        lab, effort = self._lab, self._effort
        reading = FioJob("read", 256 * KiB, 4, 60, repeats=False)
        before = self._bytes_received()
        with volume(self.scene) as device:
            run_fio(lab.primary, device, reading, Part(0, effort.read_size))
            merge = self.merge()
            traffic = self._bytes_received() - before
        return _Round(merge, traffic, read_perf(lab.primary.run(self._perf_script())))

    def _under_load(
        self, device: str, offset: int, script: str, read: Callable[[str], _Read]
    ) -> _Read:
        job = FioJob("randread", 4 * KiB, 1, 120)
        part = Part(offset, self._effort.data_size // 2)
        load = job.command(device, part)
        script = _UNDER_LOAD.format(disk=Path(device).name, load=load, script=script)
        output = self._lab.primary.run(script, timeout_seconds=180)
        parse_fio(output[output.index("{\n") :], job.direction)  # the load was there
        return read(output)

    def _perf_script(self) -> str:
        return iscsi_perf_command(self.scene.snapshot_url, self._effort.seconds)

    def _merge_script(self) -> str:
        name = self.scene.name
        return _MERGE.format(
            attach=bus_call("AttachSnapshot", "ssa{sv}", name, self.scene.snapshot_url, "0"),
            start=bus_call("MergeStart", "s", name),
            status=bus_call("Status", "s", name),
        )

    def _bytes_received(self) -> int:
        return sum(self._lab.primary.read_counter(link).received for link in ("thin", "bulk"))


def parse_merge(output: str) -> MergeRun:
    """Read what the merge's script prints: three clock readings, then the last status.

    Raises:
        MeasurementError: it printed something else, or nothing was merged.
    """
    try:
        clock, answer = output.splitlines()[:2]
        begin, merge, end = (float(reading) for reading in clock.split())
    except ValueError as error:
        raise MeasurementError(f"the merge was not measured: {output[:400]}") from error
    status = parse_bus_status(answer)
    merged = int(status["counters"]["bytes_merged"])
    if status["regions"]["lost"] or not merged:
        raise MeasurementError(f"the merge ended with {status['regions']}, {merged} bytes merged")
    return MergeRun(end - begin, merged / (end - merge), merged)
