"""The demo's programs in the machines: their clocks, logs, probes and the running targetcli."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import Any

from vagrant.agent import Job
from vagrant.demo.samples import parse_lines
from vagrant.errors import MachineError
from vagrant.machine import Machine

FOLDER = "/run/demo"
_CLOCK_READINGS = 5
_POLL_SECONDS = 0.25


def clock_ahead(machine: Machine) -> tuple[float, float]:
    """Return how many seconds a machine's clock is ahead of the host's, and the error's bound."""
    readings = []
    for _ in range(_CLOCK_READINGS):
        before = time.time()
        theirs = float(machine.run('echo "$EPOCHREALTIME"'))
        after = time.time()
        readings.append(((after - before) / 2, theirs - (before + after) / 2))
    error, ahead = min(readings)
    return ahead, error


def wait_until(condition: Callable[[], bool], what: str, *, timeout_seconds: float) -> None:
    """Poll from the host, gently: the machines have better things to do.

    Raises:
        MachineError: it did not come true in time.
    """
    end = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > end:
            raise MachineError("lab", f"{what} took over {timeout_seconds:g} s")
        time.sleep(_POLL_SECONDS)


class Log:
    """A file of JSON lines that grows in a machine."""

    def __init__(self, machine: Machine, path: str) -> None:
        self.entries: list[dict[str, Any]] = []
        self._machine = machine
        self._path = path
        self._size = 0
        self._rest = ""

    def read_new(self) -> list[dict[str, Any]]:
        """Fetch what was appended since the last call and return it."""
        command = f"tail -c +{self._size + 1} {shlex.quote(self._path)} 2>/dev/null || true"
        text = self._machine.run(command)
        self._size += len(text.encode())
        found, self._rest = parse_lines(self._rest + text)
        self.entries += found
        return found


class LatencyProbe:
    """The initiator's stopwatch (lab-probe-latency)."""

    def __init__(self, machine: Machine) -> None:
        path = f"{FOLDER}/latency"
        machine.run(f"mkdir -p {FOLDER}")
        self.log = Log(machine, path)
        self._job = machine.start_script(f"exec lab-probe-latency {path}")

    def wait_until_waiting(self) -> None:
        """Return when it scans for a disk."""
        wait_until(lambda: bool(self.log.read_new()), "the probe's start", timeout_seconds=60)

    def wait_until_online(self, timeout_seconds: float) -> tuple[float, str]:
        """Return the initiator's time of the first byte, and the disk."""

        def is_online() -> bool:
            self.log.read_new()
            return any("online" in entry for entry in self.log.entries)

        wait_until(is_online, "the LUN's return", timeout_seconds=timeout_seconds)
        entry = next(entry for entry in self.log.entries if "online" in entry)
        return float(entry["online"]), str(entry["device"])

    def stop(self) -> None:
        """End it and fetch the rest of its log."""
        self._job.kill()
        self.log.read_new()


class StatusProbe:
    """The primary's watcher (lab-probe-status)."""

    def __init__(self, machine: Machine, volume: str) -> None:
        self._machine = machine
        self._path = f"{FOLDER}/status"
        machine.run(f"mkdir -p {FOLDER}")
        self.log = Log(machine, self._path)
        self._job = machine.start_script(f"exec lab-probe-status {volume} {self._path}")
        machine.run(f"until [ -e {self._path}.ready ]; do sleep 0.2; done", timeout_seconds=60)

    def go(self) -> None:
        """Begin to watch."""
        self._machine.run(f": >{self._path}.go")

    def stop(self) -> None:
        """End it and fetch the rest of its log."""
        self._job.kill()
        self.log.read_new()


class Targetcli:
    """A targetcli-restore shell that is running on a machine and is typed into."""

    PROMPT_TEST = "/backstores pwd"  # prints the path: what was typed before it has ended

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._folder = f"{FOLDER}/targetcli"
        self._asked = 0
        self._job: Job = machine.start_script(f"exec lab-probe-shell {self._folder}")
        machine.run(f"until [ -e {self._folder}/log ]; do sleep 0.2; done", timeout_seconds=60)
        self.do()

    def type(self, *lines: str) -> float:
        """Type lines and return the machine's time just before, without waiting for anything."""
        if not self._job.is_running:
            raise MachineError(self._machine.name, f"targetcli has ended:\n{self.output()}")
        words = " ".join(shlex.quote(line) for line in lines)
        script = f'echo "$EPOCHREALTIME"; printf "%s\\n" {words} >{self._folder}/in'
        return float(self._machine.run(script))

    def do(self, *lines: str) -> str:
        """Type lines and return what the shell has printed since it began, once they have ended."""
        self.type(*lines, self.PROMPT_TEST)
        self._asked += 1
        log = f"{self._folder}/log"
        count = f"$(grep -c '/backstores$' {log})"
        script = f'until [ "{count}" -ge {self._asked} ]; do sleep 0.2; done; cat {log}'
        return self._machine.run(script, timeout_seconds=120)

    def output(self) -> str:
        """Return all that it printed, each line with the machine's time before it."""
        return self._machine.run(self.show_output())

    def show_output(self) -> str:
        """Return a command for the machine that prints all the shell has printed."""
        return f"cat {self._folder}/log"

    def leave(self) -> None:
        """Save the configuration and exit."""
        self.type("saveconfig", "exit")
        self._job.wait()
