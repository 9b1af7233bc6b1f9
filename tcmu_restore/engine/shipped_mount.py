"""Mounts the file system of a disk that was plugged in, read-only, for the volumes that want it.

The kernel then reads what a stranger may have written, so nothing is mounted unless a volume's
definition asks for it. Only removable devices are, of kinds that are usual on a carried disk, and
never a volume's primary. No journal is replayed: not a byte is written. Blocking.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from .device_event import DeviceNumber

MOUNT_FOLDER: Final = Path("/run/tcmu-restore/shipped")
"""Below it each file system is mounted in a folder of its device's name."""

FILE_SYSTEMS: Final = {
    "ext4": "noload",
    "xfs": "norecovery",
    "btrfs": "rescue=nologreplay",
    "vfat": "",
    "exfat": "",
}
"""What is mounted, and how to keep each from replaying its journal."""

_SAFE: Final = "ro,nosuid,nodev,noexec,nosymfollow"
_COMMAND_SECONDS: Final = 60.0
"""A disk that spins up and a large file system take seconds; what takes longer hangs."""

_DEVICE: Final = re.compile(r"/dev/[A-Za-z0-9]+")
_USB: Final = re.compile(r"/usb[0-9]+/")


def is_removable(sysfs: Path, number: DeviceNumber) -> bool:
    """Return whether the device, or the disk that it is a part of, can be carried away."""
    with suppress(OSError):
        folder = (sysfs / f"{number[0]}:{number[1]}").resolve(strict=True)
        if _USB.search(f"{folder}/"):
            return True
        for owner in (folder, folder.parent):
            with suppress(OSError):
                return (owner / "removable").read_text(encoding="ascii").strip() == "1"
    return False


def is_part_of_another(sysfs: Path, number: DeviceNumber) -> bool:
    """Return whether device mapper or MD has the device."""
    with suppress(OSError):
        return any((sysfs / f"{number[0]}:{number[1]}" / "holders").iterdir())
    return False


def mount_read_only(device: str, folder: Path) -> bool:
    """Mount *device* at *folder*, which is made; return False if it holds no file system of ours.

    Raises:
        OSError: it cannot be mounted; the reason is the program's. The folder is gone again.
    """
    kind = _run("blkid", "--probe", "--output", "value", "--match-tag", "TYPE", device)
    options = FILE_SYSTEMS.get(kind.strip())
    if options is None or _DEVICE.fullmatch(device) is None:
        return False
    folder.parent.parent.mkdir(mode=0o755, exist_ok=True)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    words = ",".join(filter(None, (_SAFE, options)))
    try:
        _run("mount", "--types", kind.strip(), "--options", words, device, str(folder), check=True)
    except OSError:
        folder.rmdir()
        raise
    return True


def unmount(folder: Path) -> None:
    """Unmount *folder* at once, even if its disk is gone or somebody is in it, and remove it."""
    with suppress(OSError):
        _run("umount", "--lazy", str(folder), check=True)
    with suppress(OSError):
        folder.rmdir()


def _run(*words: str, check: bool = False) -> str:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{words[0]} did not end") from error
    if check and done.returncode != 0:
        raise OSError(" ".join(done.stderr.split()) or f"{words[0]} failed")
    return done.stdout
