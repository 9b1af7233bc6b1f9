"""The load: fio and iscsi-perf in a machine of the lab."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tcmu_restore.units import KiB, MiB
from tests.bench.readings import FioResult, parse_fio, parse_iscsi_perf
from vagrant.machine import Machine

PERF_BLOCK = 1 * MiB  # as large as one step of the merge, and as many in flight
PERF_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a device that a job touches, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class FioJob:
    """One kind of access. Without `repeats` it also ends when each block was touched once."""

    pattern: str
    block_size: int
    depth: int
    seconds: float
    repeats: bool = True

    @property
    def direction(self) -> str:
        """The side of fio's report that counts."""
        return "write" if "write" in self.pattern else "read"

    @property
    def title(self) -> str:
        """How the report names it."""
        order = "random" if self.pattern.startswith("rand") else "sequential"
        return f"{self.block_size // KiB} KiB {order} {self.direction}, depth {self.depth}"

    def command(self, device: str, part: Part) -> str:
        """Return the words for a shell; the report goes to standard output."""
        words = ["fio", "--name=bench", "--ioengine=libaio", "--direct=1", "--output-format=json"]
        words += [f"--filename={device}", f"--rw={self.pattern}", f"--bs={self.block_size}"]
        words += [f"--iodepth={self.depth}", f"--offset={part.offset}", f"--size={part.length}"]
        words += [f"--runtime={self.seconds:g}", "--randrepeat=0", "--thread"]
        words += ["--allow_file_create=0"]
        words += ["--time_based"] * self.repeats
        return shlex.join(words)


def run_fio(machine: Machine, device: str, job: FioJob, part: Part) -> FioResult:
    """Run a job to its end. Nothing of the devices' data is in the machine's cache at its start."""
    script = f"sync; echo 3 >/proc/sys/vm/drop_caches\n{job.command(device, part)}"
    return parse_fio(machine.run(script, timeout_seconds=job.seconds + 60), job.direction)


def iscsi_perf_command(url: str, seconds: float) -> str:
    """Return the words that read a LUN from its beginning, over and over, for some seconds."""
    blocks = PERF_BLOCK // 512
    return shlex.join(
        ["iscsi-perf", "-m", str(PERF_DEPTH), "-b", str(blocks), "-t", f"{seconds:.0f}", url]
    )


def read_perf(output: str) -> float:
    """Return bytes a second."""
    return parse_iscsi_perf(output, PERF_BLOCK)
