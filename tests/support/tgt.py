"""A real iSCSI target on loopback: Debian's ``tgt``, one daemon per test, with its own port.

The daemon has its own management socket too, so nothing of the host's is touched,
and it is ended by its own handle.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

TGTD = shutil.which("tgtd") or shutil.which("tgtd", path="/usr/sbin:/sbin")
TGTADM = shutil.which("tgtadm") or shutil.which("tgtadm", path="/usr/sbin:/sbin")

MISSING = (
    "needs tgtd and tgtadm (Debian package tgt)"
    if TGTD is None or TGTADM is None
    else "tgtd needs root"
    if os.geteuid() != 0
    else ""
)
"""Why no target can run here; empty where one can."""

IQN = "iqn.2024-01.test.example:disk"
START_SECONDS = 10.0


class TgtTarget:
    """One target with LUN 1 on *backing*. Use it in a ``with`` statement.

    Args:
        folder: for sockets; its path must be short (a Unix socket's name holds 107 bytes).
        backing: the file or device behind the LUN; it exists already.
        chap: (user, password) that initiators must present.
        mutual: (user, password) that the target presents.
        identity: the LUN's ``scsi_id`` and serial number, to tell two disks apart.
        thin: report thin provisioning, and punch holes when told to unmap.
    """

    def __init__(
        self,
        folder: Path,
        backing: Path,
        *,
        chap: tuple[str, str] | None = None,
        mutual: tuple[str, str] | None = None,
        identity: str = "disk1",
        thin: bool = False,
    ) -> None:
        self.backing = backing
        self.port = _free_port()
        self.iqn = IQN
        self.identity = identity
        self._chap = chap
        self._mutual = mutual
        self._thin = thin
        self._folder = folder
        self._environment = {**os.environ, "TGT_IPC_SOCKET": str(folder / "tgt")}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"iscsi://127.0.0.1:{self.port}/{self.iqn}/1"

    def __enter__(self) -> TgtTarget:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the daemon and configure it. Returns when it accepts logins."""
        assert self._process is None
        with _ready_socket(self._folder) as (ready, path):
            self._process = subprocess.Popen(
                [
                    str(TGTD),
                    "-f",
                    "--control-port",
                    "0",
                    "--iscsi",
                    f"portal=127.0.0.1:{self.port}",
                ],
                env={**self._environment, "NOTIFY_SOCKET": path},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while b"READY=1" not in ready.recv(4096):
                pass
        self._configure()

    def kill(self) -> None:
        """End the daemon as a crash would. Twice is fine."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def freeze(self) -> None:
        """Stop the daemon in its tracks: connections stay, answers don't come."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen daemon go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _configure(self) -> None:
        # the LUN first: whoever logs in sees all of it
        self._tgtadm("target", "new", "--tid", "1", "--targetname", self.iqn)
        self._tgtadm("logicalunit", "new", "--tid", "1", "--lun", "1", "-b", str(self.backing))
        parameters = f"scsi_id={self.identity},scsi_sn={self.identity}"
        if self._thin:
            parameters += ",thin_provisioning=1"
        self._tgtadm("logicalunit", "update", "--tid", "1", "--lun", "1", "--params", parameters)
        if self._chap:
            self._account(self._chap)
        if self._mutual:
            self._account(self._mutual, "--outgoing")
        self._tgtadm("target", "bind", "--tid", "1", "-I", "ALL")

    def _account(self, account: tuple[str, str], *options: str) -> None:
        user, password = account
        self._tgtadm("account", "new", "--user", user, "--password", password)
        self._tgtadm("account", "bind", "--tid", "1", "--user", user, *options)

    def _tgtadm(self, mode: str, operation: str, *arguments: str) -> None:
        command = [str(TGTADM), "--control-port", "0", "--lld", "iscsi", "--mode", mode]
        command += ["--op", operation, *arguments]
        result = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{' '.join(command)}: {result.stdout}{result.stderr}"


@contextmanager
def _ready_socket(folder: Path) -> Iterator[tuple[socket.socket, str]]:
    """Give a socket on which the daemon reports that it is ready (sd_notify(3))."""
    path = str(folder / "ready")
    with suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(path)
        ready.settimeout(START_SECONDS)
        yield ready, path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
