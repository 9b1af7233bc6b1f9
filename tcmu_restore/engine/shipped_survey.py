"""What is to be seen of carried disks just now: mounts what is wanted, looks, unmounts what is not.

Blocking, on disks that may hang; one call at a time, from a thread of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..log_line import log_line
from ..sources.block_device import identity_of
from .device_event import DeviceNumber, read_presence
from .device_watch import SYSFS
from .mount_table import MOUNT_TABLE, Mount, read_mounts
from .shipped_image import FoundImage, find_images
from .shipped_mount import (
    MOUNT_FOLDER,
    is_part_of_another,
    is_removable,
    mount_read_only,
    unmount,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look. *shelves* are folders below which carried disks are mounted by people; a file
    system elsewhere is looked at if its device is removable."""

    mount_table: Path = MOUNT_TABLE
    sysfs: Path = SYSFS
    mount_folder: Path = MOUNT_FOLDER
    shelves: tuple[str, ...] = ("/media", "/mnt", "/run/media")

    def is_ours(self, mount: Mount) -> bool:
        """Return whether we mounted it."""
        return mount.point.startswith(f"{self.mount_folder}/")

    def is_of_interest(self, mount: Mount) -> bool:
        """Return whether a carried disk may be mounted there."""
        on_shelf = any(f"{mount.point}/".startswith(f"{shelf}/") for shelf in self.shelves)
        return on_shelf or self.is_ours(mount) or is_removable(self.sysfs, mount.number)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the open volumes want. *wanted* and *primaries* are identities."""

    devices: Mapping[DeviceNumber, str]
    """To be mounted, if they can be: the kernel's names."""

    wanted: frozenset[str] = frozenset()
    """Backups of the volumes that let disks be mounted; what holds nothing of them is let go."""

    primaries: frozenset[str] = frozenset()
    seen: Mapping[Mount, tuple[FoundImage, ...]] = field(default_factory=dict)
    """What was found earlier; a file system is looked at once each time it is mounted."""


def take_survey(places: Places, wishes: Wishes) -> dict[Mount, tuple[FoundImage, ...]]:
    """Return the exported snapshots on each mounted file system of interest. Raises OSError."""
    mounts = read_mounts(places.mount_table)
    for mount in mounts:
        if places.is_ours(mount) and read_presence(places.sysfs, mount.number) is None:
            unmount(Path(mount.point))
    mounted = {mount.number for mount in mounts}
    for number, device in wishes.devices.items():
        if number not in mounted:
            _mount(places, number, device, wishes.primaries)
    found: dict[Mount, tuple[FoundImage, ...]] = {}
    for mount in filter(places.is_of_interest, read_mounts(places.mount_table)):
        images = wishes.seen[mount] if mount in wishes.seen else _look(mount)
        if places.is_ours(mount) and not any(i.backup_identity in wishes.wanted for i in images):
            unmount(Path(mount.point))
        else:
            found[mount] = images
    return found


def _mount(places: Places, number: DeviceNumber, device: str, primaries: frozenset[str]) -> None:
    """Mount a device that may be a carried disk; what cannot be mounted is left alone."""
    is_carried = is_removable(places.sysfs, number) and not is_part_of_another(places.sysfs, number)
    if not is_carried or identity_of(device) in primaries:
        return
    try:
        if mount_read_only(device, places.mount_folder / os.path.basename(device)):
            sentence = f"{device} was mounted read-only, to look for snapshots"
            log.info(log_line(sentence, operation="shipped-disk"))
    except OSError as error:
        sentence = f"{device} is not looked at: it cannot be mounted: {error}"
        log.warning(log_line(sentence, operation="shipped-disk"))


def _look(mount: Mount) -> tuple[FoundImage, ...]:
    try:
        return tuple(find_images(mount.point))
    except OSError as error:
        sentence = f"{mount.point} is not looked at: {error.strerror}"
        log.info(log_line(sentence, operation="shipped-disk"))
        return ()
