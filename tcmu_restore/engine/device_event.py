"""Which event of a block device is a reason to look at which disk, and what sysfs says then.

An event alone decides nothing: it may be late, and about an earlier disk of the same number. What
sysfs says now decides, and reading it waits for no disk. The first part is pure.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DeviceNumber = tuple[int, int]
"""Major and minor of a block device's ``st_rdev``."""


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """What the kernel or udev says. *names* are the device file and the links to it."""

    action: str
    number: DeviceNumber
    sys_path: str
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DevicePresence:
    """What sysfs says of a number. *size* is not 0 if there is something behind it; *sequence*
    (since Linux 5.15) is another one for each disk and each medium."""

    sys_path: str
    size: int
    sequence: str = ""


@dataclass(frozen=True, slots=True)
class Appearance:
    """A device that is there, and its names."""

    presence: DevicePresence
    names: frozenset[str]


def can_concern(event: DeviceEvent, number: DeviceNumber, known: DevicePresence | None) -> bool:
    """Return whether *event* is a reason to look at the watched device: its own, or its disk's.

    A partition's folder in sysfs lies below its disk's, and what is removed takes with it what is
    below. What happens to another partition, or to a partition of a watched disk, is no reason.
    """
    if event.number == number:
        return True
    return known is not None and known.sys_path.startswith(event.sys_path + "/")


def is_gone(known: DevicePresence | None, now: DevicePresence | None) -> bool:
    """Return whether the device that was *known* is no longer what sysfs says *now*.

    Nothing has its number, or something else has it, or nothing is behind it: a device-mapper
    device without a table, a detached loop device and a drive without a medium have the size 0.
    A disk that grew or shrank is not gone.
    """
    if now is None or now.size == 0:
        return True
    return known is not None and (known.sys_path, known.sequence) != (now.sys_path, now.sequence)


def is_news(seen: Appearance | None, now: Appearance) -> bool:
    """Return whether a device that is *now* was not there before, or has a name it did not have.

    udev tells of a change whenever a program that could write closes a disk: that is no news.
    """
    return seen is None or is_gone(seen.presence, now.presence) or not now.names <= seen.names


# --- sysfs and udev -------------------------------------------------------------------------


def read_presence(sysfs: Path, number: DeviceNumber) -> DevicePresence | None:
    """Return what sysfs says of *number* now, or None if nothing has it."""
    try:
        folder = (sysfs / f"{number[0]}:{number[1]}").resolve(strict=True)
        size = int((folder / "size").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    for owner in (folder, folder.parent):  # a partition has its disk's sequence
        with suppress(OSError):
            sequence = (owner / "diskseq").read_text(encoding="ascii").strip()
            return DevicePresence(str(folder), size, sequence)
    return DevicePresence(str(folder), size)


def parse_event(device: Any) -> DeviceEvent | None:
    """Return a ``pyudev.Device`` as an event, or None if it has no device number.

    One that was listed, rather than received, has no action.
    """
    number = device.device_number
    if not number:
        return None
    numbers = (os.major(number), os.minor(number))
    names = frozenset(name for name in (device.device_node, *device.device_links) if name)
    return DeviceEvent(device.action or "", numbers, device.sys_path, names)
