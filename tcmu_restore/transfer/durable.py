"""Files that survive a power cut: written wholly, made durable, by fixed names. Blocking."""

from __future__ import annotations

import errno
import os

from ..sources.image_directory import open_file


def write_all(descriptor: int, data: bytes | bytearray, offset: int) -> None:
    """Write all of *data* at *offset*. Raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view = view[count:]
        offset += count


def create_file(directory: int, name: str, data: bytes) -> None:
    """Make *name* with *data*, at once or not at all, replacing what is there. Raises OSError."""
    temporary = f"{name}.tmp"
    descriptor = open_file(directory, temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(descriptor, data, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    sync_directory(directory)


def sync_directory(directory: int) -> None:
    """Make names durable, where the file system can. Raises OSError."""
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
