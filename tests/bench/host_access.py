"""What a host notices: restored reads, lost reads on two links, mirrored writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tcmu_restore.units import KiB, MiB
from tests.bench.effort import Effort
from tests.bench.readings import FioResult
from tests.bench.report import Bar, Figure, Pair, summarize
from tests.bench.rig import backup_lun, make_data, qcow, volume
from tests.bench.workload import FioJob, Part, run_fio
from vagrant.lab import Lab
from vagrant.scene import Scene

UNSHAPED = "thin, unshaped"
SHAPED = "thin, 100 Mbit/s + 20 ms"
OPEN_ISCSI = "backup LUN, open-iscsi"

_RANDOM_PART = 4 * MiB
_SEQUENTIAL_PART = 24 * MiB
_WRITE_PART = 16 * MiB


class Parts:
    """Hands out disjoint parts of a device, so that a read of lost bytes is the first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = 0

    def take(self, length: int) -> Part:
        """Return the next part."""
        part = Part(self._next, length)
        self._next += length
        assert self._next <= self._size, "the volume is too small for the rounds"
        return part


def measure_restored(lab: Lab, effort: Effort, ours: str, size: int) -> Iterator[Figure]:
    """Compare reads of a volume that is wholly current with the stock handler's."""
    jobs = [
        FioJob("randread", 4 * KiB, 1, effort.seconds),
        FioJob("randread", 4 * KiB, 16, effort.seconds),
        FioJob("read", 256 * KiB, 4, effort.seconds),
    ]
    whole = Part(0, size)
    with qcow(lab, size) as peer:
        for job in jobs:

            def measure(device: str, job: FioJob = job) -> float:
                return _speed(job, run_fio(lab.primary, device, job, whole))

            pairs = [Pair(measure(ours), measure(peer)) for _ in range(effort.rounds)]
            bar = Bar(f"restored {job.title}", "none", "tcmu-runner qcow, raw file", _unit(job))
            yield summarize(bar, pairs)


def measure_lost_and_mirrored(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """Compare reads of lost bytes, and then writes, with the same on the backup LUN itself."""
    per_round = 2 * (_RANDOM_PART + _SEQUENTIAL_PART)
    scene = Scene(lab, "lost", effort.rounds * per_round + 2 * _WRITE_PART)
    scene.make_backup(make_data(scene.size // MiB))
    scene.add_blank_disk()
    parts = Parts(scene.size)
    with backup_lun(scene) as peer, volume(scene) as ours:
        yield from _measure_lost(lab, effort, (ours, peer), parts, UNSHAPED)
        with shaped(lab):
            yield from _measure_lost(lab, effort, (ours, peer), parts, SHAPED)
        yield _measure_mirrored(lab, effort, (ours, peer), parts)


@contextmanager
def shaped(lab: Lab) -> Iterator[None]:
    """Give the thin link 100 Mbit/s each way and a round trip of 20 ms, 10 ms at either end."""
    for machine in (lab.primary, lab.backup):
        machine.netem("thin", delay_ms=10, rate_bits_per_second=100_000_000)
    yield
    for machine in (lab.primary, lab.backup):
        machine.netem("thin")


def _measure_lost(
    lab: Lab, effort: Effort, devices: tuple[str, str], parts: Parts, link: str
) -> Iterator[Figure]:
    jobs = {
        FioJob("randread", 4 * KiB, 1, effort.seconds, repeats=False): _RANDOM_PART,
        FioJob("read", 256 * KiB, 4, effort.seconds, repeats=False): _SEQUENTIAL_PART,
    }
    ours, peer = devices
    for job, length in jobs.items():
        pairs = []
        for _ in range(effort.rounds):
            part = parts.take(length)
            sides = [_speed(job, run_fio(lab.primary, side, job, part)) for side in (ours, peer)]
            pairs.append(Pair(*sides))
        yield summarize(Bar(f"lost {job.title}", link, OPEN_ISCSI, _unit(job)), pairs)


def _measure_mirrored(lab: Lab, effort: Effort, devices: tuple[str, str], parts: Parts) -> Figure:
    """Each side writes to a part of its own: the peer writes behind the volume's back."""
    job = FioJob("randwrite", 4 * KiB, 1, effort.seconds)
    once = FioJob("write", 256 * KiB, 4, 60, repeats=False)
    sides = [(device, parts.take(_WRITE_PART)) for device in devices]
    for device, part in sides:  # from here on both have all their space, and nothing is lost
        run_fio(lab.primary, device, once, part)

    def measure(device: str, part: Part) -> float:
        return run_fio(lab.primary, device, job, part).mean_latency_seconds * 1e6

    pairs = [Pair(*(measure(*side) for side in sides)) for _ in range(effort.rounds)]
    bar = Bar(f"mirrored {job.title}, mean latency", UNSHAPED, OPEN_ISCSI, "us")
    return summarize(bar, pairs)


def _speed(job: FioJob, result: FioResult) -> float:
    if _unit(job) == "IOPS":
        return result.commands_per_second
    return result.bytes_per_second / MiB


def _unit(job: FioJob) -> str:
    """Small accesses are counted, large ones weighed."""
    return "IOPS" if job.block_size < 64 * KiB else "MiB/s"
