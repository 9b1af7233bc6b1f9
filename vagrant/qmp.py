"""A client of QEMU's control socket: one command at a time, events kept for who waits for them."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from vagrant.errors import QmpError

_ANSWER_SECONDS = 30.0


class Qmp:
    """A connection to one QEMU process."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_SECONDS)
        try:
            self._socket.connect(str(path))
            self._lines = self._socket.makefile("rb")
            self._events: list[dict[str, Any]] = []
            self._receive()  # the greeting
            self.execute("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def execute(self, command: str, **arguments: object) -> Any:
        """Run one command and return what it returns.

        Raises:
            QmpError: QEMU refused it, or has gone.
        """
        request = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._receive()
            if "event" in answer:
                self._events.append(answer)
            elif "error" in answer:
                raise QmpError(f"{command}: {answer['error'].get('desc')}")
            else:
                return answer["return"]

    def wait_for_event(self, name: str, *, device: str, timeout_seconds: float) -> None:
        """Wait until QEMU has reported an event about a device.

        Raises:
            QmpError: it was not reported in time.
        """
        end = time.monotonic() + timeout_seconds
        while time.monotonic() < end:
            for event in self._events:
                if event["event"] == name and event["data"].get("device") == device:
                    self._events.remove(event)
                    return
            self.execute("query-status")  # brings the events that came meanwhile
            time.sleep(0.05)
        raise QmpError(f"no event {name} for {device} within {timeout_seconds:g} s")

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._lines.close()
        self._socket.close()

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise QmpError(f"no answer from QEMU: {error}") from error
        if not line:
            raise QmpError("QEMU closed its control socket")
        answer: dict[str, Any] = json.loads(line)
        return answer
