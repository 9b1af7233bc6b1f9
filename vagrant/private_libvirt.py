"""libvirt for a test: daemons, networks and machines that end with this process.

They live in namespaces of their own. On a host without hardware virtualisation, without systemd
or with a libvirt of its own, nothing of the host is used or changed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Self

from vagrant import host
from vagrant.errors import HostUnfitError

_SCRIPT = host.HERE / "private-libvirt.sh"
_START_SECONDS = 120.0  # it asks QEMU what it can do, which takes 8 s of an idle machine


class PrivateLibvirt:
    """A running libvirt; a context manager. Its files are in a folder that the caller removes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        namespaces = ("--mount", "--propagation=private", "--net", "--pid", "--fork")
        script = ("bash", str(_SCRIPT), str(folder))
        with (folder / "output").open("wb") as log:
            self._holder = host.spawn(
                ["unshare", *namespaces, "--kill-child", "--mount-proc", *script],
                output=log.fileno(),
            )

    def __enter__(self) -> Self:
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def prefix(self) -> tuple[str, ...]:
        """The words to put before a command that shall use this libvirt."""
        number = self._holder.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        return ("nsenter", f"--target={children[0]}", "--mount", "--net", "--pid", "--")

    def close(self) -> None:
        """End it and all it runs."""
        self._holder.kill()
        self._holder.wait()

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while not (self._folder / "ready").exists():
            if self._holder.poll() is not None or time.monotonic() > end:
                said = (self._folder / "output").read_text(errors="replace")
                raise HostUnfitError(f"libvirt did not start here:\n{said}")
            time.sleep(0.2)
