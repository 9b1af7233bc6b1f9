"""A local disk: a block device or a regular file.

Bytes go straight between the caller's memory and the page cache. What may block
runs in a few threads of this store's own; what the page cache holds is read
inline with ``read_now``. Buffered on purpose: populated and merged bytes are read
again soon, and the page cache makes that a copy of microseconds.

Local errors are translated here, once, and keep their errno in the reason.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from asyncio import Future, get_running_loop
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from ..core.buffer import Buffers, slice_buffers, total_length
from ..core.extent import Extent, coalesce
from ..errors import (
    SourceError,
    SourceFlushError,
    SourceReadError,
    SourceUnreachableError,
    SourceWriteError,
)
from ..units import MiB
from .base import BlockStore, ExtentKind, SourceGeometry
from .block_device import OpenDisk, check_unused, open_disk, reason_of
from .io_thread import IoThreads

__all__ = ["FileStore", "check_unused"]

IO_THREADS: Final = 8
"""Blocking calls at once: enough to keep a disk's queue busy, few enough to cost nothing."""

ZERO_CHUNK: Final = 1 * MiB
"""Bytes of zeros written at once where the device cannot zero by itself."""

BLKFLSBUF: Final = 0x1261
"""_IO(0x12, 97): write back and forget a device's page cache. Source: linux/fs.h."""

_IOV_MAX: Final = os.sysconf("SC_IOV_MAX")

_FALLOC_FL_KEEP_SIZE: Final = 0x01
_FALLOC_FL_PUNCH_HOLE: Final = 0x02
_FALLOC_FL_ZERO_RANGE: Final = 0x10

_ZERO_MODES: Final = (_FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, _FALLOC_FL_ZERO_RANGE)
"""In order of preference: the first also frees the space. Both read back as zeros on files and,
as BLKZEROOUT, on block devices. Source: fallocate(2); Linux block/fops.c, blkdev_fallocate."""

_CANNOT_ZERO: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

_T = TypeVar("_T")


class FileStore(BlockStore):
    """A block device or a regular file. Make one with ``FileStore.open``. Stays in epoch 0."""

    __slots__ = (
        "_descriptor",
        "_geometry",
        "_is_block_device",
        "_is_gone",
        "_name",
        "_read_only",
        "_threads",
        "_zero_modes",
    )

    def __init__(self, name: str, disk: OpenDisk, *, read_only: bool) -> None:
        self._name = name
        self._descriptor: int | None = disk.descriptor
        self._geometry = disk.geometry
        self._is_block_device = disk.is_block_device
        self._read_only = read_only
        self._is_gone = False
        self._threads = IoThreads("disk-io", IO_THREADS)
        self._zero_modes: tuple[int, ...] = _ZERO_MODES

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool = False) -> FileStore:
        """Open the disk at *path* exclusively (see ``block_device.open_disk``).

        Raises:
            PrimaryInUseError: it is mounted or something else holds it.
            PrimaryUnusableError: it is missing, may not be opened, or is no disk.
        """
        name = os.fspath(path)
        return cls(name, open_disk(name, read_only=read_only), read_only=read_only)

    @property
    def name(self) -> str:
        """The path."""
        return self._name

    @property
    def geometry(self) -> SourceGeometry:
        """Size, block size and identity, as they were when the disk was opened."""
        return self._geometry

    @property
    def is_reachable(self) -> bool:
        """False once closed, or once the kernel said that the device is gone."""
        return self._descriptor is not None and not self._is_gone

    def read_into(self, offset: int, buffers: Buffers) -> Future[None]:
        """Fill *buffers* in a thread. Fails with SourceReadError."""
        self._check(offset, total_length(buffers))
        return self._submit(self._read, offset, buffers)

    def read_now(self, offset: int, buffers: Buffers) -> bool:
        """Fill *buffers* from the page cache, or return False. Source: preadv2(2), RWF_NOWAIT."""
        if self._descriptor is None:
            return False
        try:
            count = os.preadv(self._descriptor, buffers, offset, os.RWF_NOWAIT)
        except OSError:
            return False  # not cached, too many parts, or not supported: read_into finds out
        return count == total_length(buffers)

    def write(self, offset: int, buffers: Buffers) -> Future[int]:
        """Write *buffers* in a thread. Fails with SourceWriteError."""
        self._check(offset, total_length(buffers))
        return self._submit(self._write, offset, buffers)

    def zero(self, extent: Extent) -> Future[int]:
        """Zero *extent*, freeing its space where possible. Fails with SourceWriteError."""
        self._check(extent.offset, extent.length)
        return self._submit(self._zero, extent)

    def flush(self) -> Future[int]:
        """Do fdatasync(2) in a thread. Fails with SourceFlushError."""
        return self._submit(self._flush)

    def extents(self, extent: Extent) -> Future[list[tuple[ExtentKind, int]]]:
        """Find the holes of a regular file; a block device is all data."""
        if self._is_block_device or self._descriptor is None:
            return BlockStore.extents(self, extent)
        self._check(extent.offset, extent.length)
        return self._submit(_file_extents, extent)

    @property
    def device_number(self) -> tuple[int, int] | None:
        """Major and minor of a block device; None for a file, or once closed."""
        if self._descriptor is None or not self._is_block_device:
            return None
        number = os.fstat(self._descriptor).st_rdev
        return os.major(number), os.minor(number)

    def measure(self) -> SourceGeometry:
        """Look at the size again, for a disk that has grown, and return the geometry.

        Raises SourceUnreachableError: it was closed, or is gone.
        """
        if self._descriptor is None:
            raise SourceUnreachableError(self._name, "it was closed")
        try:
            size = os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError as error:
            raise self._failure(SourceUnreachableError)(error) from error
        size -= size % self._geometry.block_size
        if size > self._geometry.size:
            self._geometry = replace(self._geometry, size=size)
        return self._geometry

    def drop_cache(self) -> Future[None]:
        """Write back what is in the page cache and forget it, in a thread.

        After an unclean stop: pages that an earlier failed write-back left clean are not what the
        disk holds. Fails with SourceFlushError. Source: BLKFLSBUF; posix_fadvise(2), DONTNEED.
        """
        return self._submit(self._drop_cache)

    async def close(self) -> None:
        """Wait for the calls in flight, then let the disk go."""
        descriptor, self._descriptor = self._descriptor, None
        await self._threads.close()
        if descriptor is not None:
            os.close(descriptor)

    def _check(self, offset: int, length: int) -> None:
        assert offset >= 0
        assert offset + length <= self._geometry.size
        assert offset % self._geometry.block_size == 0
        assert length % self._geometry.block_size == 0

    def _submit(self, function: Callable[..., _T], *args: object) -> Future[_T]:
        """Run ``function(descriptor, *args)`` in a thread, unless the store was closed."""
        if self._descriptor is not None:
            return self._threads.submit(function, self._descriptor, *args)
        future: Future[_T] = get_running_loop().create_future()
        future.set_exception(SourceUnreachableError(self._name, "it was closed"))
        return future

    # --- in a thread ---------------------------------------------------------------------

    def _read(self, descriptor: int, offset: int, buffers: Buffers) -> None:
        _transfer(os.preadv, self._failure(SourceReadError), descriptor, offset, buffers)

    def _write(self, descriptor: int, offset: int, buffers: Buffers) -> int:
        failure = self._failure(SourceWriteError)
        if self._read_only:
            raise failure(OSError(errno.EROFS, ""))
        _transfer(os.pwritev, failure, descriptor, offset, buffers)
        return 0

    def _zero(self, descriptor: int, extent: Extent) -> int:
        failure = self._failure(SourceWriteError)
        if self._read_only:
            raise failure(OSError(errno.EROFS, ""))
        for mode in self._zero_modes:
            if _libc.fallocate(descriptor, mode, extent.offset, extent.length) == 0:
                return 0
            code = ctypes.get_errno()
            if code not in _CANNOT_ZERO:
                raise failure(OSError(code, ""))
        self._zero_modes = ()  # neither works on this device; write zeros from now on
        zeros = memoryview(bytes(min(extent.length, ZERO_CHUNK)))
        for piece in extent.pieces(ZERO_CHUNK):
            self._write(descriptor, piece.offset, (zeros[: piece.length],))
        return 0

    def _flush(self, descriptor: int) -> int:
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            raise self._failure(SourceFlushError)(error) from error
        return 0

    def _drop_cache(self, descriptor: int) -> None:
        self._flush(descriptor)
        try:
            if self._is_block_device:
                fcntl.ioctl(descriptor, BLKFLSBUF)
            else:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise self._failure(SourceFlushError)(error) from error

    def _failure(self, kind: Callable[[str, str], SourceError]) -> Callable[[OSError], SourceError]:
        """Return what turns an OSError into *kind*, noticing a vanished device."""

        def translate(error: OSError) -> SourceError:
            if error.errno in (errno.ENODEV, errno.ENXIO):
                self._is_gone = True
            return kind(self._name, reason_of(error))

        return translate


def _transfer(
    call: Callable[[int, Buffers, int], int],
    failure: Callable[[OSError], SourceError],
    descriptor: int,
    offset: int,
    buffers: Buffers,
) -> None:
    """Move all bytes with preadv(2) or pwritev(2), however many calls that takes."""
    left = total_length(buffers)
    while left:
        try:
            count = call(descriptor, buffers[:_IOV_MAX], offset)
        except OSError as error:
            raise failure(error) from error
        if count == 0:
            raise failure(OSError(errno.ENODATA, ""))  # the file or the device has shrunk
        left -= count
        offset += count
        if left:
            buffers = slice_buffers(buffers, offset=count, length=left)


def _file_extents(descriptor: int, extent: Extent) -> list[tuple[ExtentKind, int]]:
    """Walk the file's data and holes. Source: lseek(2), SEEK_DATA and SEEK_HOLE."""
    try:
        data = coalesce(_data_extents(descriptor, extent))
    except OSError:
        return [(ExtentKind.DATA, extent.length)]
    answer: list[tuple[ExtentKind, int]] = []
    position = extent.offset
    for part in data:
        if part.offset > position:
            answer.append((ExtentKind.ZERO, part.offset - position))
        answer.append((ExtentKind.DATA, part.length))
        position = part.end
    if position < extent.end:
        answer.append((ExtentKind.ZERO, extent.end - position))
    return answer


def _data_extents(descriptor: int, extent: Extent) -> list[Extent]:
    """Return what of *extent* may hold data, rounded outwards to blocks."""
    found: list[Extent] = []
    position = extent.offset
    while position < extent.end:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # no data up to the end of the file
            raise
        start -= start % 512
        end = -(-os.lseek(descriptor, max(start, position), os.SEEK_HOLE) // 512) * 512
        if part := Extent(start, max(end - start, 512)).intersection(extent):
            found.append(part)
        position = max(end, position + 512)
    return found
