"""Runs the host's scripts inside a machine: JSON lines over a virtio-serial port.

Request: {"id": 7, "script": "...", "timeout": 30} or {"id": 7, "kill": true}
or {"id": 0, "ping": true}.
Answer: {"id": 7, "status": 0, "timed_out": false, "output": "..."}.
Requests run side by side. One process only may open the port.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

WORK = Path("/run/lab")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
}


def find_port(name: str) -> str:
    """Return the device of the port with this name, waiting for the driver if need be."""
    while True:
        for entry in Path("/sys/class/virtio-ports").glob("*"):
            label = entry / "name"
            if label.exists() and label.read_text().strip() == name:
                return f"/dev/{entry.name}"
        time.sleep(0.1)


class Agent:
    """Serves one port for ever."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.lock = threading.Lock()
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def serve(self) -> None:
        """Read requests; an empty read means that no host is connected at the moment."""
        pending = b""
        while True:
            data = os.read(self.port, 65536)
            if not data:
                time.sleep(0.05)
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self.take(line)

    def take(self, line: bytes) -> None:
        """Start one request; a line cut by a reconnect is dropped."""
        try:
            request = json.loads(line)
        except ValueError:
            return
        if request.get("ping"):
            self.send(json.dumps({"id": request["id"]}).encode() + b"\n")
        elif request.get("kill"):
            self.kill(request["id"])
        else:
            self.start(request)

    def kill(self, number: int) -> None:
        """End a request's whole process group."""
        child = self.running.get(number)
        if child is not None and child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)

    def start(self, request: dict[str, Any]) -> None:
        """Start a script, its output in a file so that daemons cannot hold it open."""
        number = request["id"]
        script = WORK / f"{number}.sh"
        script.write_text(request["script"])
        with (WORK / f"{number}.out").open("wb") as file:
            child = subprocess.Popen(
                ["bash", "-e", "-o", "pipefail", str(script)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=ENVIRONMENT,
                cwd="/root",
                start_new_session=True,
            )
        self.running[number] = child
        arguments = (number, child, request.get("timeout"))
        threading.Thread(target=self.finish, args=arguments, daemon=True).start()

    def finish(self, number: int, child: subprocess.Popen[bytes], timeout: float | None) -> None:
        """Wait for a script's end, for no longer than its time, and answer."""
        timed_out = False
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            self.kill(number)
            status = child.wait()
        del self.running[number]
        output = WORK / f"{number}.out"
        text = output.read_bytes().decode(errors="replace")
        output.unlink()
        (WORK / f"{number}.sh").unlink()
        answer = {"id": number, "status": status, "timed_out": timed_out, "output": text}
        self.send(json.dumps(answer).encode() + b"\n")

    def send(self, data: bytes) -> None:
        """Write one answer whole."""
        with self.lock:
            while data:
                data = data[os.write(self.port, data) :]


def main() -> None:
    """Serve the port named on the command line."""
    WORK.mkdir(exist_ok=True)
    Agent(os.open(find_port(sys.argv[1]), os.O_RDWR)).serve()


if __name__ == "__main__":
    main()
