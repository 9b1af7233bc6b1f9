"""Where events of block devices come from: netlink, by way of pyudev.

The kernel's channel tells at once and needs no daemon, but before the links below /dev/disk are
made; udev's tells when they are. Foreign objects (``pyudev.Device``) go no further than
``device_event.parse_event``.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

UDEV_SOCKET: Final = Path("/run/udev/control")

RECEIVE_BUFFER: Final = 1024 * 1024
"""Bytes of netlink buffer, about a thousand events. More are an overrun, which is survived."""


class EventSource(Protocol):
    """What is used of ``pyudev.Monitor``."""

    def fileno(self) -> int:
        """Return the channel's descriptor."""

    def poll(self, timeout: float | None = None) -> Any:
        """Return the next ``pyudev.Device``, or None. Raises OSError after an overrun."""


def list_block_devices() -> Iterable[Any]:
    """Return every block device of this host, as ``pyudev.Device``."""
    devices: Iterable[Any] = (
        importlib.import_module("pyudev").Context().list_devices(subsystem="block")
    )
    return devices


def open_channels() -> list[Channel]:
    """Return the channels of this host. Raises ImportError or OSError where there are none."""
    has_udev = UDEV_SOCKET.exists()
    channels = [Channel(_open_monitor("kernel"), tells_names=not has_udev)]
    if has_udev:
        channels.append(Channel(_open_monitor("udev"), tells_names=True))
    return channels


def _open_monitor(source: str) -> EventSource:
    pyudev = importlib.import_module("pyudev")  # late: without libudev it cannot be used
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source)
    monitor.filter_by("block")
    with suppress(OSError):  # not privileged enough: then the default has to do
        monitor.set_receive_buffer_size(RECEIVE_BUFFER)
    monitor.start()
    opened: EventSource = monitor
    return opened


@dataclass(slots=True, eq=False)
class Channel:
    """One open channel; *tells_names* says whether its events tell what appeared."""

    source: EventSource
    tells_names: bool
    failure_count: int = 0
    lost_events: bool = False


def clear_error(descriptor: int) -> None:
    """Take the pending error off a socket: pyudev raises for it, and leaves it there."""
    with suppress(OSError):
        channel = socket.socket(fileno=descriptor)
        try:
            channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        finally:
            channel.detach()  # it stays the monitor's
