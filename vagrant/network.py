"""The lab's networks: bridges and taps in a network namespace that has no name and no way out.

The namespace lives exactly as long as the process that holds it, and that dies with this one, so
nothing is ever left to clean up, and any number of labs run side by side.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from vagrant import host
from vagrant.errors import HostUnfitError

_START_SECONDS = 5.0


class Network:
    """A network namespace with one bridge a link."""

    def __init__(self, links: Sequence[str]) -> None:
        self._holder = host.spawn(
            ["unshare", "--net", "sleep", "infinity"], output=subprocess.DEVNULL
        )
        try:
            self._wait_for_namespace()
            for link in links:
                bridge = _bridge(link)
                self._ip("link", "add", bridge, "type", "bridge", "forward_delay", "0")
                self._ip("link", "set", bridge, "up")
        except BaseException:
            self.close()
            raise

    @property
    def prefix(self) -> tuple[str, ...]:
        """The words to put before a command so that it runs in the namespace."""
        return ("nsenter", f"--target={self._holder.pid}", "--net", "--")

    def add_tap(self, machine: str, link: str) -> str:
        """Make the tap by which a machine reaches a link, and return its name."""
        tap = f"{machine[:6]}-{link[:6]}"
        self._ip("tuntap", "add", tap, "mode", "tap")
        self._ip("link", "set", tap, "master", _bridge(link), "up")
        return tap

    def close(self) -> None:
        """End the namespace, and with it every bridge and tap."""
        self._holder.kill()
        self._holder.wait()

    def _ip(self, *words: str) -> None:
        host.run(*self.prefix, "ip", *words)

    def _wait_for_namespace(self) -> None:
        own = Path("/proc/self/ns/net").readlink()
        theirs = Path(f"/proc/{self._holder.pid}/ns/net")
        end = time.monotonic() + _START_SECONDS
        while theirs.readlink() == own:
            if self._holder.poll() is not None or time.monotonic() > end:
                raise HostUnfitError("this host does not let the lab make a network namespace")
            time.sleep(0.005)


def _bridge(link: str) -> str:
    return f"br-{link}"
