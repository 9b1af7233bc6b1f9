"""The files of an exported snapshot, opened so that a hostile disk leads nowhere else.

Every file is opened by its fixed name, relative to the open directory; links are not followed,
and what is no regular file (a FIFO would hang us) is refused. Blocking.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from ..core.buffer import Buffers, slice_buffers, total_length
from .image_manifest import MANIFEST_NAME

_IOV_MAX: Final = os.sysconf("SC_IOV_MAX")
_SAFE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def is_image(path: str) -> bool:
    """Return whether *path* is a directory that claims to hold an exported snapshot."""
    return os.path.lexists(os.path.join(path, MANIFEST_NAME))


def open_directory(path: str | Path) -> int:
    """Return a descriptor of the directory. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_file(directory: int, name: str, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of the regular file *name*. Raises OSError."""
    descriptor = os.open(name, flags | _SAFE, 0o600, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{name} is not a regular file")
    return descriptor


def read_file(directory: int, name: str, length_max: int) -> bytes:
    """Return all of *name*, or its first *length_max* + 1 bytes if it is longer. Raises OSError."""
    descriptor = open_file(directory, name)
    try:
        length = min(os.fstat(descriptor).st_size, length_max + 1)
        data = bytearray(length)
        fill(descriptor, 0, (memoryview(data),) if length else ())
    finally:
        os.close(descriptor)
    return bytes(data)


def fill(descriptor: int, offset: int, buffers: Buffers) -> None:
    """Fill *buffers* with the file's bytes from *offset* on. Raises OSError, also if it ends."""
    left = total_length(buffers)
    while left:
        count = os.preadv(descriptor, buffers[:_IOV_MAX], offset)
        if count == 0:
            raise OSError(errno.ENODATA, "the file is cut off")
        left -= count
        offset += count
        if left:
            buffers = slice_buffers(buffers, offset=count, length=left)
