"""What Linux tells about a local disk: kind, size, identity, and who else uses it.

Blocking, but short: the calls read ``/sys`` and ``/proc`` and send two ioctls.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import PrimaryInUseError, PrimaryUnusableError
from .base import SourceGeometry

BLKSSZGET: Final = 0x1268
"""_IO(0x12, 104): the logical block size, an int. Source: linux/fs.h."""

BLKGETSIZE64: Final = 0x80081272
"""_IOR(0x12, 114, size_t): the size in bytes, a u64. Source: linux/fs.h."""

FILE_BLOCK_SIZE: Final = 512
"""Bytes. A regular file has no blocks of its own; this is what its size must be a multiple of."""

_SYS_BLOCK: Final = Path("/sys/dev/block")
_MOUNTS: Final = Path("/proc/self/mountinfo")
_SWAPS: Final = Path("/proc/swaps")


@dataclass(frozen=True, slots=True)
class OpenDisk:
    """A descriptor that is held exclusively, and what it is."""

    descriptor: int
    is_block_device: bool
    geometry: SourceGeometry


def open_disk(path: str, *, read_only: bool) -> OpenDisk:
    """Open a block device or a regular file so that nobody else can mount or open it as a disk.

    A device is opened with O_EXCL, which mount(2), swapon(2), device mapper and MD respect; a file
    gets a flock(2), shared when *read_only*.

    Raises:
        PrimaryInUseError: it is mounted, or something else holds it. Retry after freeing it.
        PrimaryUnusableError: it is missing, may not be opened, or is no disk.
    """
    access = os.O_RDONLY if read_only else os.O_RDWR
    is_device = _is_block_device(path)
    try:
        descriptor = os.open(path, access | os.O_CLOEXEC | (os.O_EXCL if is_device else 0))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise PrimaryInUseError(path, _holder(path)) from error
        raise PrimaryUnusableError(path, reason_of(error)) from error
    try:
        if not is_device:
            _lock_file(path, descriptor, shared=read_only)
        return OpenDisk(descriptor, is_device, _geometry(path, descriptor))
    except BaseException:
        os.close(descriptor)
        raise


def check_unused(path: str) -> None:
    """Raise unless the disk could be opened now as a volume's primary.

    Raises:
        PrimaryInUseError: it is mounted, swap, part of another device, or held by a process.
        PrimaryUnusableError: it is missing, may not be opened, or is no disk.
    """
    os.close(open_disk(path, read_only=True).descriptor)


def identity_of(path: str) -> str | None:
    """Return the identity of the block device at *path* without opening it; None if there is none.

    The same as ``SourceGeometry.identity`` of the opened disk.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return _device_identity(status.st_rdev) if stat.S_ISBLK(status.st_mode) else None


def reason_of(error: OSError) -> str:
    """Return the error for a person, with its number: ``Input/output error (EIO)``."""
    code = error.errno
    if code is None:
        return str(error)
    return f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"


def _is_block_device(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise PrimaryUnusableError(path, reason) from error
    if stat.S_ISBLK(mode):
        return True
    if stat.S_ISREG(mode):
        return False
    raise PrimaryUnusableError(path, "it is neither a block device nor a regular file")


def _lock_file(path: str, descriptor: int, *, shared: bool) -> None:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PrimaryInUseError(path, "another process has locked the file") from error
    except OSError as error:
        raise PrimaryUnusableError(path, reason_of(error)) from error


def _geometry(path: str, descriptor: int) -> SourceGeometry:
    status = os.fstat(descriptor)
    if stat.S_ISBLK(status.st_mode):
        return _device_geometry(path, descriptor, status.st_rdev)
    if status.st_size == 0 or status.st_size % FILE_BLOCK_SIZE:
        reason = f"its size ({status.st_size} bytes) is not a multiple of {FILE_BLOCK_SIZE}"
        raise PrimaryUnusableError(path, reason)
    identity = f"file.{status.st_dev}.{status.st_ino}"
    return SourceGeometry(status.st_size, FILE_BLOCK_SIZE, identity)


def _device_geometry(path: str, descriptor: int, number: int) -> SourceGeometry:
    try:
        (size,) = struct.unpack("Q", fcntl.ioctl(descriptor, BLKGETSIZE64, bytes(8)))
        (block_size,) = struct.unpack("i", fcntl.ioctl(descriptor, BLKSSZGET, bytes(4)))
    except OSError as error:
        raise PrimaryUnusableError(path, reason_of(error)) from error
    if size == 0:
        raise PrimaryUnusableError(path, "it has no bytes (no medium?)")
    return SourceGeometry(size, block_size, _device_identity(number))


def _device_identity(number: int) -> str:
    """Prefer what stays with the disk (a serial number) to what the kernel counted."""
    name = f"{os.major(number)}:{os.minor(number)}"
    directory = _SYS_BLOCK / name
    partition = _first_line(directory / "partition")
    disk = (directory / "..") if partition else directory
    suffix = f".part{partition}" if partition else ""
    for attribute, prefix in (
        ("dm/uuid", "dm."),
        ("wwid", "wwid."),
        ("device/wwid", "wwid."),
        ("device/serial", "serial."),
        ("serial", "serial."),
    ):
        if value := _first_line(disk / attribute):
            return f"{prefix}{value}{suffix}"
    return f"dev.{name}"


def _first_line(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return " ".join(text.split())


def _holder(path: str) -> str:
    """Say who holds the device, as far as the kernel tells."""
    number = os.stat(path).st_rdev
    directory = _SYS_BLOCK / f"{os.major(number)}:{os.minor(number)}"
    numbers = {_first_line(entry) for entry in (directory / "dev", *directory.glob("*/dev"))}
    if mount := _mount_point(numbers):
        return f"mounted on {mount}"
    if _is_swap(numbers):
        return "used as swap"
    if holders := sorted(entry.name for entry in directory.glob("holders/*")):
        return f"part of {', '.join(holders)}"
    return "another process holds it exclusively"


def _mount_point(numbers: set[str]) -> str | None:
    """Return where one of the devices is mounted. Source: proc(5), mountinfo fields 3 and 5."""
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        if fields[2] in numbers:
            return fields[4]
    return None


def _is_swap(numbers: set[str]) -> bool:
    for line in _SWAPS.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
        try:
            number = os.stat(line.split()[0]).st_rdev
        except OSError:
            continue
        if f"{os.major(number)}:{os.minor(number)}" in numbers:
            return True
    return False
