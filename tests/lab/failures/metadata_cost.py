"""How much metadata the product writes for what a host writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from vagrant.lab import Lab

from .stage import MIB, Stage, staged

SIZE = 320 * MIB
WORKING_SET = 288 * MIB
FLUSH_EVERY = 32
COUNTERS = ("state_transactions", "state_bytes_written", "intent_commits", "map_commits")


@dataclass(frozen=True, slots=True)
class MetadataCost:
    """What a random write load of 4 KiB with a flush after every 32 writes has cost."""

    seconds: float
    host_writes: int
    host_flushes: int
    host_bytes: int
    state_file_bytes: int
    counters: dict[str, int]

    def __str__(self) -> str:
        counters = ", ".join(f"{name} {count}" for name, count in self.counters.items())
        return (
            f"metadata: {self.host_writes} random 4 KiB writes and {self.host_flushes} flushes in "
            f"{self.seconds:.0f} s over {WORKING_SET // MIB} MiB caused {counters}: "
            f"{self.counters['state_transactions'] / self.host_writes:.3f} transactions and "
            f"{self.counters['state_bytes_written'] / self.host_writes:.1f} bytes of metadata per "
            f"host write; the disk of the state files took {self.state_file_bytes} bytes, "
            f"{self.state_file_bytes / self.host_bytes:.3f} per byte of the host"
        )


def measure_metadata_cost(lab: Lab, *, seconds: int) -> MetadataCost:
    """Write at random with fio for *seconds* to a volume that is blank; return what it cost."""
    with staged(lab, "cost", size=SIZE, has_file_system=False) as stage:
        before, disk_before = _counters(stage), _state_disk_bytes(stage)
        job = _run_fio(stage, seconds)
        after, disk_after = _counters(stage), _state_disk_bytes(stage)
    return MetadataCost(
        seconds=job["write"]["runtime"] / 1000,
        host_writes=job["write"]["total_ios"],
        host_flushes=job["sync"]["total_ios"],
        host_bytes=job["write"]["io_bytes"],
        state_file_bytes=disk_after - disk_before,
        counters={name: after[name] - before[name] for name in COUNTERS},
    )


def _counters(stage: Stage) -> dict[str, int]:
    counters: dict[str, int] = stage.status()["counters"]
    return counters


def _state_disk_bytes(stage: Stage) -> int:
    """Return what was ever written to the disk of the state files, journal and all."""
    path = "/sys/block/$(basename $(readlink /dev/disk/by-id/virtio-state))/stat"
    return int(stage.lab.primary.run(f"cat {path}").split()[6]) * 512


def _run_fio(stage: Stage, seconds: int) -> dict[str, Any]:
    words = (  # a colon in a file name means several files to fio: no by-path name
        f"fio --name=cost --filename=$(realpath {stage.device}) --rw=randwrite --bs=4k --direct=1 "
        f"--ioengine=libaio --iodepth=8 --fsync={FLUSH_EVERY} --size={WORKING_SET} "
        f"--time_based --runtime={seconds} --output-format=json --randseed=1"
    )
    output = stage.lab.initiator.run(words, timeout_seconds=seconds + 120)
    document = json.loads(output[output.index("{") :])
    job: dict[str, Any] = document["jobs"][0]
    return job
