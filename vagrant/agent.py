"""The host's side of the agent in a machine: scripts out, statuses and output back.

The protocol is that of guest/agent.py. A channel serves one boot of a machine; when QEMU ends,
every job that was running fails.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vagrant.errors import GuestScriptError, GuestTimeoutError, MachineError

_PING_SECONDS = 0.25
_ANSWER_GRACE_SECONDS = 30.0  # the machine ends a script that is late; this is for the answer


class Job:
    """A script that is running in a machine, or has ended."""

    def __init__(self, channel: AgentChannel, number: int, timeout_seconds: float) -> None:
        self._channel = channel
        self._number = number
        self._timeout_seconds = timeout_seconds
        self._ended = threading.Event()
        self._answer: dict[str, Any] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the script has not ended yet."""
        return not self._ended.is_set()

    def wait(self) -> str:
        """Wait for the end and return the script's output.

        Raises:
            GuestScriptError: its status was not 0.
            GuestTimeoutError: its time was up.
            MachineError: the machine went away.
        """
        machine = self._channel.machine
        if not self._ended.wait(self._timeout_seconds + _ANSWER_GRACE_SECONDS):
            raise GuestTimeoutError(machine, self._timeout_seconds, "(the agent does not answer)")
        if self._answer is None:
            raise MachineError(machine, "it went away while a script ran")
        output: str = self._answer["output"]
        if self._answer["timed_out"]:
            raise GuestTimeoutError(machine, self._timeout_seconds, output)
        if self._answer["status"] != 0:
            raise GuestScriptError(machine, self._answer["status"], output)
        return output

    def kill(self) -> None:
        """End the script and all it started."""
        self._channel.send({"id": self._number, "kill": True})

    def end(self, answer: dict[str, Any] | None) -> None:
        """Take the agent's answer, or None when the machine has gone."""
        self._answer = answer
        self._ended.set()


class AgentChannel:
    """The connection to the agent of one machine during one boot."""

    def __init__(self, machine: str, path: Path) -> None:
        self.machine = machine
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lock = threading.Lock()
        self._jobs: dict[int, Job] = {}
        self._last_number = 0
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_ready(self, timeout_seconds: float, is_alive: Callable[[], bool]) -> None:
        """Ask until the agent answers: what is written before it opened its port may be lost.

        Raises:
            MachineError: it did not answer in time, or QEMU ended.
        """
        end = time.monotonic() + timeout_seconds
        while time.monotonic() < end:
            self.send({"id": 0, "ping": True})
            if self._ready.wait(_PING_SECONDS):
                return
            if not is_alive():
                raise MachineError(self.machine, "QEMU ended while it booted")
        raise MachineError(self.machine, f"its agent did not answer in {timeout_seconds:g} s")

    def submit(self, script: str, *, timeout_seconds: float) -> Job:
        """Start a script (bash -e -o pipefail) and return at once."""
        with self._lock:
            self._last_number += 1
            number = self._last_number
            job = self._jobs[number] = Job(self, number, timeout_seconds)
        self.send({"id": number, "script": script, "timeout": timeout_seconds})
        return job

    def send(self, request: dict[str, Any]) -> None:
        """Write one request."""
        data = json.dumps(request).encode() + b"\n"
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError as error:
            raise MachineError(self.machine, "it is not running") from error

    def close(self) -> None:
        """Drop the connection; running jobs fail."""
        with contextlib.suppress(OSError):  # QEMU was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def _read(self) -> None:
        pending = b""
        while True:
            try:
                data = self._socket.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._take(line)
        with self._lock:
            jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.end(None)

    def _take(self, line: bytes) -> None:
        answer: dict[str, Any] = json.loads(line)
        self._ready.set()
        with self._lock:
            job = self._jobs.pop(answer["id"], None)
        if job is not None:
            job.end(answer)
