"""Notices block devices that vanish and block devices that appear.

What vanishes is taken from the kernel's channel, what appears from udev's, or from the kernel's,
without links, where udev does not run. Where even that is missing, the watch is idle: a dead disk
is then noticed by its first failed write.

Which event is a reason to look where, and what counts as gone, is in ``device_event``. An overrun,
which loses events, is healed by looking at everything.

For the event loop's thread only. Nothing here raises into the loop.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..log_line import log_line
from .device_channel import Channel, clear_error, list_block_devices, open_channels
from .device_event import (
    Appearance,
    DeviceNumber,
    DevicePresence,
    can_concern,
    is_gone,
    is_news,
    parse_event,
    read_presence,
)

log = logging.getLogger(__name__)

SYSFS: Final = Path("/sys/dev/block")
EVENTS_AT_ONCE: Final = 64
"""After so many the loop may do something else: a shelf of disks that comes up must not hold up
commands."""

FAILURES_MAX: Final = 16
"""A channel that fails this often without an event in between is broken, and is given up."""


class WatchHandle:
    """One watched device, until it is gone or the handle is closed."""

    def __init__(self, number: DeviceNumber, forget: Callable[[WatchHandle], None]) -> None:
        self.number = number
        self._forget = forget

    def close(self) -> None:
        """Watch the device no longer; a second time does nothing."""
        self._forget(self)


@dataclass(frozen=True, slots=True)
class _Watched:
    known: DevicePresence | None
    on_removed: Callable[[DeviceNumber], None]


class DeviceWatch:
    """Watches the block devices of this host.

    ``on_appeared`` is called with the names (device file and links) of every device that is there
    at the start, and then of each that appears or gets another name. One that failed and never
    went away does not appear.
    """

    def __init__(
        self,
        *,
        sysfs: Path = SYSFS,
        open_channels: Callable[[], list[Channel]] = open_channels,
        list_devices: Callable[[], Iterable[Any]] = list_block_devices,
    ) -> None:
        self.on_appeared: Callable[[frozenset[str]], None] = lambda names: None
        self._sysfs = sysfs
        self._open_channels = open_channels
        self._list_devices = list_devices
        self._loop: AbstractEventLoop | None = None
        self._channels: list[Channel] = []
        self._watched: dict[WatchHandle, _Watched] = {}
        self._seen: dict[DeviceNumber, Appearance] = {}
        self._is_closed = False

    @property
    def is_watching(self) -> bool:
        """Whether events come at all."""
        return bool(self._channels)

    def start(self, loop: AbstractEventLoop) -> None:
        """Watch from now on. Never raises: without udev the watch is idle, and the log says so."""
        self._loop = loop
        try:
            for channel in self._open_channels():
                loop.add_reader(channel.source.fileno(), self._read, channel)
                self._channels.append(channel)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with udev, LUNs are served
            sentence = f"block devices are not watched; only failed I/O shows a loss: {error}"
            log.warning(log_line(sentence, operation="device-watch"))
        loop.call_soon(self._look_at_all)  # what changed before this

    def close(self) -> None:
        """Watch nothing any more, and call nobody; a second time does nothing."""
        self._is_closed = True
        for channel in list(self._channels):
            self._drop(channel)
        self._watched.clear()

    def register(
        self, number: DeviceNumber, on_removed: Callable[[DeviceNumber], None]
    ) -> WatchHandle:
        """Call *on_removed* once, with *number*, when that device is gone.

        Not from within this call, even if it is gone already.
        """
        handle = WatchHandle(number, self._forget)
        self._watched[handle] = _Watched(read_presence(self._sysfs, number), on_removed)
        if self._loop is not None:
            self._loop.call_soon(self._look_at, handle)
        return handle

    def _forget(self, handle: WatchHandle) -> None:
        self._watched.pop(handle, None)

    def _read(self, channel: Channel) -> None:
        """Handle what came in; then, if events were lost, look at everything.

        Not before the channel is empty: until then the kernel goes on dropping events.
        """
        for _ in range(EVENTS_AT_ONCE):
            if channel not in self._channels:
                return
            try:
                device = channel.source.poll(0)
            except Exception as error:  # noqa: BLE001 - see the module: nothing raises into the loop
                self._failed(channel, error)
                continue
            if device is None:
                if channel.lost_events:
                    channel.lost_events = False
                    self._look_at_all()
                return
            channel.failure_count = 0
            _call(self._take, device, channel.tells_names)
        if channel.lost_events:  # it may be empty now, and nobody would call for the look
            assert self._loop is not None
            self._loop.call_soon(self._read, channel)

    def _failed(self, channel: Channel, error: Exception) -> None:
        channel.lost_events = True
        channel.failure_count += 1
        if channel.failure_count < FAILURES_MAX:
            sentence = f"events of block devices were lost ({error}); every device is looked at"
            log.info(log_line(sentence, operation="device-watch"))
            clear_error(channel.source.fileno())
            return
        sentence = f"a channel of block device events is broken and given up: {error}"
        log.error(log_line(sentence, operation="device-watch"))
        self._drop(channel)
        self._look_at_all()

    def _drop(self, channel: Channel) -> None:
        assert self._loop is not None
        self._channels.remove(channel)
        with suppress(OSError, ValueError):
            self._loop.remove_reader(channel.source.fileno())

    def _take(self, device: Any, tells_names: bool) -> None:
        event = parse_event(device)
        if event is None:
            return
        for handle, watched in list(self._watched.items()):
            if can_concern(event, handle.number, watched.known):
                self._look_at(handle)
        now = read_presence(self._sysfs, event.number)
        if now is None or now.size == 0:
            self._seen.pop(event.number, None)
        elif tells_names and event.action != "remove":
            self._offer(event.number, Appearance(now, event.names))

    def _offer(self, number: DeviceNumber, now: Appearance) -> None:
        seen, self._seen[number] = self._seen.get(number), now
        if is_news(seen, now) and not self._is_closed:
            _call(self.on_appeared, now.names)

    def _look_at(self, handle: WatchHandle) -> None:
        """Report a watched device that is gone; without sysfs nobody knows."""
        watched = self._watched.get(handle)
        if watched is None or not self._sysfs.is_dir():
            return
        if is_gone(watched.known, read_presence(self._sysfs, handle.number)):
            del self._watched[handle]
            _call(watched.on_removed, handle.number)

    def _look_at_all(self) -> None:
        for handle in list(self._watched):
            self._look_at(handle)
        if self._channels:
            _call(self._take_all)

    def _take_all(self) -> None:
        for number in list(self._seen):
            if read_presence(self._sysfs, number) is None:
                del self._seen[number]
        for device in self._list_devices():
            _call(self._take, device, True)


def _call(callback: Callable[..., None], *arguments: Any) -> None:
    try:
        callback(*arguments)
    except Exception:
        log.exception("a block device's change could not be handled")
