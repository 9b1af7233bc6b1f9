"""Snapshots of files on a file system that shares blocks between files: XFS, btrfs.

The kernel writes the file's dirty pages back and then clones it with writers held out, so the clone
holds every write wholly or not at all.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

from ..whole_file import sync_folder
from .backing import Backing
from .errors import NoProviderError, SnapshotCommandError, SnapshotSpaceError
from .provider import SnapshotProvider

FICLONE: Final = 0x40049409
"""Source: linux/fs.h, _IOW(0x94, 9, int)."""

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
_CANNOT_SHARE: Final = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV)


class ReflinkProvider(SnapshotProvider):
    """A clone beside the file. Only the clone itself tells whether the file system can."""

    name: ClassVar[str] = "reflink"
    plugin: ClassVar[str] = "fileio"

    def fits(self, backing: Backing) -> bool:
        """Return whether it is a file."""
        return not backing.is_block

    def place(self, backing: Backing, snapshot: str) -> str:
        """Return a path beside the file: clones stay within a file system."""
        return f"{backing.path}.snapshot-{snapshot}"

    def check(self, backing: Backing, device: str, size: int | None) -> None:
        """Raise if the file is there already."""
        del size
        if os.path.lexists(device):
            raise NoProviderError(backing.origin, f"{device} exists already")

    def take(self, backing: Backing, device: str, size: int | None) -> None:
        """Clone the file and make the clone durable."""
        del size
        try:
            _clone(backing.path, device)
        except OSError as error:
            raise _translated(error, backing) from error

    def find_fault(self, device: str) -> str | None:
        """Return what is wrong: it is gone."""
        return None if os.path.isfile(device) else f"{device} is gone"

    def remove(self, device: str) -> None:
        """Remove the clone."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(device)
                sync_folder(Path(device))
        except OSError as error:
            raise SnapshotCommandError(f"Removing {device}", str(error.strerror)) from error


def _clone(path: str, clone: str) -> None:
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        target = os.open(clone, flags, 0o600)
        try:
            fcntl.ioctl(target, FICLONE, source)
            os.fsync(target)
        except BaseException:
            os.unlink(clone)
            raise
        finally:
            os.close(target)
    finally:
        os.close(source)
    sync_folder(Path(clone))


def _translated(error: OSError, backing: Backing) -> Exception:
    folder = os.path.dirname(backing.path)
    if error.errno in _NO_SPACE:
        reason = f"the file system of {folder} is full"
        return SnapshotSpaceError(backing.origin, reason)
    if error.errno in _CANNOT_SHARE:
        reason = f"the file system of {folder} cannot share blocks (XFS with reflink and btrfs can)"
        return NoProviderError(backing.origin, reason)
    return SnapshotCommandError(f"Cloning {backing.path}", str(error.strerror))
