"""A disk with a real volatile write cache: what was not flushed is gone after a power cut.

A killed QEMU loses nothing, because the host's page cache survives it. So the machine talks NBD to
a store in this process. It keeps two sparse files: what the machine sees, and what is on the
medium. Writes reach the medium at a flush, with FUA, or when the cache is full, the oldest first.
A power cut decides by a seeded generator whether each cached write is kept, dropped or torn (sector
by sector), in order, so that a sector may hold any of its unflushed versions. It also answers
errors on request, and can die. All methods may be called from any thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import threading
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vagrant.nbd import NbdServer

SECTOR = 512
CACHE_SIZE = 32 << 20
"""Beyond this many cached bytes the oldest half goes to the medium by itself."""

_PUNCH_FROM = 64 << 10  # below it zeros are written: faster, and no fragments
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01  # linux/falloc.h
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class _Write:
    """A cached write; no data means zeros."""

    offset: int
    length: int
    data: bytes | None

    def piece(self, start: int) -> _Write:
        """The sector of this write that begins at byte *start* of it."""
        data = None if self.data is None else self.data[start : start + SECTOR]
        return _Write(self.offset + start, SECTOR, data)


class VolatileDisk:
    """The store behind one disk, and the NBD server that a machine reaches it by."""

    def __init__(self, path: Path, size: int, *, socket: Path, seed: int = 0) -> None:
        assert size % SECTOR == 0
        self.path, self.size, self.socket = path, size, socket
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._cache: deque[_Write] = deque()
        self._cached_size = 0
        self._unreadable: set[int] = set()
        self._unwritable: set[int] = set()
        self._is_dead = False
        with ExitStack() as stack:
            self._medium = _open_sparse(path, size, stack)
            self._seen = _open_sparse(path.with_suffix(".seen"), size, stack)
            self._server = NbdServer(self, socket)
            stack.callback(self._server.close)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """End the server. The files stay."""
        self._stack.close()

    # What the machine does

    def read(self, offset: int, length: int) -> bytes:
        """Return what was written last."""
        with self._lock:
            self._check(offset, length, self._unreadable)
            return os.pread(self._seen, length, offset)

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> None:
        """Take a write into the cache; with *fua* it is on the medium on return."""
        self._take(_Write(offset, len(data), data), fua=fua)

    def write_zeroes(self, offset: int, length: int, *, fua: bool = False) -> None:
        """Take a write of zeros, or a discard, into the cache."""
        self._take(_Write(offset, length, None), fua=fua)

    def flush(self) -> None:
        """Put all that was written before on the medium."""
        with self._lock:
            self._check(0, 0, set())
            self._write_back(0)

    # What happens to the disk

    def power_cut(self) -> None:
        """Lose power: connections end, and each cached write is kept, dropped or torn."""
        self._server.drop_connections()
        with self._lock:
            lost = list(self._cache)
            self._cache.clear()
            self._cached_size = 0
            for write in lost:
                self._half_forget(write)
            for write in lost:
                _copy(self._medium, self._seen, write.offset, write.length)

    def fail_reads(self, offset: int, length: int) -> None:
        """Let reads of these bytes fail until they are written, as sectors of a real disk do."""
        with self._lock:
            self._unreadable.update(_sectors(offset, length))

    def fail_writes(self, offset: int, length: int) -> None:
        """Let writes to these bytes fail until `heal`."""
        with self._lock:
            self._unwritable.update(_sectors(offset, length))

    def die(self) -> None:
        """Let everything fail until `heal`."""
        with self._lock:
            self._is_dead = True

    def heal(self) -> None:
        """End all failures."""
        with self._lock:
            self._is_dead = False
            self._unreadable.clear()
            self._unwritable.clear()

    @property
    def cached_size(self) -> int:
        """Bytes that a power cut may lose now."""
        return self._cached_size

    @property
    def unreadable_size(self) -> int:
        """Bytes that cannot be read because of `fail_reads`."""
        return len(self._unreadable) * SECTOR

    # With the lock held

    def _take(self, write: _Write, *, fua: bool) -> None:
        with self._lock:
            self._check(write.offset, write.length, self._unwritable)
            self._unreadable.difference_update(_sectors(write.offset, write.length))
            _put(self._seen, write)
            self._cache.append(write)
            self._cached_size += write.length
            if fua:
                self._write_back(0)
            elif self._cached_size > CACHE_SIZE:
                self._write_back(CACHE_SIZE // 2)

    def _check(self, offset: int, length: int, bad: set[int]) -> None:
        if self._is_dead or (bad and not bad.isdisjoint(_sectors(offset, length))):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _write_back(self, size: int) -> None:
        """Put the oldest writes on the medium until *size* bytes are cached."""
        while self._cached_size > size:
            write = self._cache.popleft()
            self._cached_size -= write.length
            _put(self._medium, write)

    def _half_forget(self, write: _Write) -> None:
        fate = self._chance.choice(("kept", "dropped", "torn"))
        if fate == "kept":
            _put(self._medium, write)
        elif fate == "torn":
            for start in range(0, write.length, SECTOR):
                if self._chance.random() < 0.5:
                    _put(self._medium, write.piece(start))


def _open_sparse(path: Path, size: int, stack: ExitStack) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, file)
    os.ftruncate(file, size)
    return file


def _sectors(offset: int, length: int) -> range:
    return range(offset // SECTOR, -(-(offset + length) // SECTOR))


def _put(file: int, write: _Write) -> None:
    if write.data is not None:
        os.pwrite(file, write.data, write.offset)
    elif write.length < _PUNCH_FROM:
        os.pwrite(file, bytes(write.length), write.offset)
    else:
        _punch(file, write.offset, write.length)


def _punch(file: int, offset: int, length: int) -> None:
    at, size = ctypes.c_int64(offset), ctypes.c_int64(length)
    if _LIBC.fallocate(file, _PUNCH_HOLE_KEEP_SIZE, at, size) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _copy(source: int, target: int, offset: int, length: int) -> None:
    step = 1 << 20
    for at in range(offset, offset + length, step):
        data = os.pread(source, min(step, offset + length - at), at)
        os.pwrite(target, data, at)
