"""Which file systems are mounted, and a call when that changes.

What stands in the table was typed by users or comes from disks: a mount point that cannot be
printed is passed over. Reading it never touches a file system.
"""

from __future__ import annotations

import logging
import re
import select
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .device_event import DeviceNumber

log = logging.getLogger(__name__)

MOUNT_TABLE: Final = Path("/proc/self/mountinfo")

_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_FIELDS_MIN: Final = 10


@dataclass(frozen=True, slots=True)
class Mount:
    """A whole file system of a local device, and where it is mounted."""

    mount_id: int
    number: DeviceNumber
    point: str
    device: str


def read_mounts(path: Path = MOUNT_TABLE) -> list[Mount]:
    """Return what is mounted from local devices. Raises OSError."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return [mount for line in lines if (mount := _parse(line)) is not None]


def _parse(line: str) -> Mount | None:
    """Return one line's mount; None for a part of a file system, or one without a device.

    Source: proc_pid_mountinfo(5).
    """
    fields = line.split(" ")
    with suppress(ValueError, IndexError):
        if len(fields) < _FIELDS_MIN or fields[3] != "/":
            return None
        device = fields[fields.index("-", 6) + 2]
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        major, minor = fields[2].split(":")
        if device.startswith("/dev/") and point.isprintable():
            return Mount(int(fields[0]), (int(major), int(minor)), point, device)
    return None


class MountWatch:
    """Calls *on_change* on the loop after each change of the mount table.

    The kernel marks a change as an exceptional condition of the open table, which the loop cannot
    wait for; an epoll of its own can, and the loop waits for that.
    """

    def __init__(self, on_change: Callable[[], None], path: Path = MOUNT_TABLE) -> None:
        self._on_change = on_change
        self._table = path.open("rb")
        self._epoll = select.epoll(1)
        self._epoll.register(self._table.fileno(), select.EPOLLPRI)
        self._loop: AbstractEventLoop | None = None

    def start(self, loop: AbstractEventLoop) -> None:
        """Watch from now on."""
        self._loop = loop
        loop.add_reader(self._epoll.fileno(), self._changed)

    def _changed(self) -> None:
        self._epoll.poll(0)
        self._on_change()

    def close(self) -> None:
        """Watch no longer; a second time does nothing."""
        if self._loop is not None and not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._table.close()
