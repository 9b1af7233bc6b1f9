"""The load on a stage's initiator, seen from the host."""

from __future__ import annotations

import json
import time
from typing import Any

from vagrant.agent import Job

from .stage import BLOCKS, Stage

WORKERS = 4
"""Three for blocks and one for files."""

STILL_SECONDS = 4
"""No flush for this long means that the load waits."""


class Load:
    """One run of lab-load."""

    def __init__(self, stage: Stage, *options: str, label: str = "1") -> None:
        self._stage = stage
        self._machine = stage.lab.initiator
        self._log = f"/run/{stage.name}.{label}"
        words = f"echo $$ >{self._log}.pid; exec lab-load {stage.device} {BLOCKS} {self._log} "
        words += f"--folder {stage.folder}"
        self._machine.run(f"rm -f {self._log}*")
        self._job: Job = self._machine.start_script(" ".join((words, *options)))

    def counts(self) -> dict[str, Any]:
        """Return what was done so far. Fails when the load has ended by itself."""
        if not self._job.is_running:
            raise AssertionError(f"the load ended: {self._job.wait()}")
        text = self._machine.run(f"cat {self._log}.now 2>/dev/null || echo '{{}}'")
        counts: dict[str, Any] = json.loads(text)
        return counts

    def go_on(self, seconds: float = 60, **more: int) -> dict[str, Any]:
        """Wait until so many more things of each kind were done; return the counts.

        With no argument: 40 writes, 1 flush and 1 file.
        """
        more = more or {"writes": 40, "flushes": 1, "files": 1}
        start = self.counts()
        end = time.monotonic() + seconds
        while True:
            now = self.counts()
            if all(now.get(key, 0) >= start.get(key, 0) + count for key, count in more.items()):
                return now
            assert time.monotonic() < end, f"the load does not go on: {start}, then {now}"
            time.sleep(0.4)

    def wait_until_it_waits(self, seconds: float = 60) -> None:
        """Wait until it neither writes nor flushes for a while."""
        end, last = time.monotonic() + seconds, {"flushes": -1}
        while (now := self.counts())["flushes"] != last["flushes"]:
            assert time.monotonic() < end, f"the load still goes on: {now}"
            last = now
            time.sleep(STILL_SECONDS)

    def pause(self, seconds: float = 30) -> None:
        """Let it rest; on return it has nothing under way, and all it wrote is flushed."""
        self._machine.run(f"touch {self._log}.pause")
        end = time.monotonic() + seconds
        while self.counts().get("resting", 0) < WORKERS:
            assert time.monotonic() < end, f"the load does not rest: {self.counts()}"
            time.sleep(0.4)
        self._machine.run(f"sync; blockdev --flushbufs {self._stage.device}")

    def resume(self) -> None:
        """End the pause."""
        self._machine.run(f"rm {self._log}.pause")

    def stop(self) -> dict[str, Any]:
        """Let it end; fail if it read a wrong byte or had an error. Returns the counts."""
        self._machine.run(f"touch {self._log}.stop")
        return self.wait_for_end()

    def wait_for_end(self) -> dict[str, Any]:
        """Wait for a load that ends by itself; return the counts."""
        counts: dict[str, Any] = json.loads(self._job.wait().strip().splitlines()[-1])
        print(f"{self._stage.name}: load: {counts}")
        return counts

    def check(self, level: str = "acked") -> None:
        """Read everything on the initiator and compare it with what was *level*."""
        stage = self._stage
        words = f"lab-verify check {stage.device} {BLOCKS} {self._log} {level}"
        print(self._machine.run(f"{words} --folder {stage.folder}", timeout_seconds=300).strip())
