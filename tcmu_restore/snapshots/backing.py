"""What a storage object lies on: a logical volume of LVM, another device, or a file."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .command import Run
from .errors import NoProviderError
from .lvm import Lv, Lvm, lv_uuid

_SYSFS: Final = Path("/sys/dev/block")


@dataclass(frozen=True, slots=True)
class Backing:
    """The device or file behind *origin*, and the logical volume, if it is one."""

    origin: str
    path: str
    is_block: bool
    lv: Lv | None = None


def find_backing(origin: str, path: str, run: Run, sysfs: Path = _SYSFS) -> Backing:
    """Look at what backs *origin*, which LIO has at *path*.

    Raises:
        NoProviderError: it is neither a device nor a file. SnapshotCommandError: LVM fails.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        reason = f"{path} cannot be looked at: {error.strerror}"
        raise NoProviderError(origin, reason) from error
    if stat.S_ISREG(status.st_mode):
        return Backing(origin, os.path.realpath(path), is_block=False)
    if not stat.S_ISBLK(status.st_mode):
        raise NoProviderError(origin, f"{path} is neither a device nor a file")
    return Backing(origin, path, is_block=True, lv=_find_lv(status.st_rdev, run, sysfs))


def _find_lv(number: int, run: Run, sysfs: Path) -> Lv | None:
    """Return the logical volume behind a device number; names may be links or device-mapper's."""
    device = sysfs / f"{os.major(number)}:{os.minor(number)}"
    try:
        uuid = lv_uuid((device / "dm/uuid").read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
    return None if uuid is None else Lvm(run).by_uuid(uuid)
