"""A snapshot that travelled: a directory made by ``snapshot-export``, read like any source.

Every byte that is given out was checked against its extent's digest in the same call. An extent
that is damaged, cut off or missing fails with BadExtentError, which names exactly its bytes; the
others stay good. Holes are zeros that nobody stored. See ``image_manifest`` for the files.

Reads run in a few threads of this source's own: a digest costs a millisecond or two.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from asyncio import Future, get_running_loop
from collections import OrderedDict
from threading import Lock
from typing import Final

from ..core.buffer import Buffers, copy_into, slice_buffers, total_length
from ..core.extent import Extent
from ..errors import BadExtentError, BadImageError, SourceError, SourceUnreachableError
from .base import BlockSource, ExtentKind, SourceGeometry
from .block_device import reason_of
from .image_directory import fill, open_directory, open_file, read_file
from .image_extent import unpack
from .image_index import RECORD_SIZE, Codec, ExtentIndex, Record, part_name
from .image_manifest import INDEX_NAME, MANIFEST_LENGTH_MAX, MANIFEST_NAME, Manifest, parse_manifest
from .io_thread import IoThreads

IO_THREADS: Final = 4
"""Extents decoded at once: digests and zstd use a processor each, and hosts need some too."""

CACHED_EXTENTS: Final = 8
"""Decoded extents that are kept: a host that reads 4 KiB after 4 KiB decodes each extent once."""

BAD_EXTENTS_KNOWN: Final = 4096
"""Bad extents that are not read again; on a disk that is worse, the others are, and fail again."""

PULL_SECONDS: Final = 1.0
"""After a read error, how long a disk that is being pulled out may take to vanish; a bad sector
costs this once, in a thread of this source's own."""

_PULLED: Final = "the disk was pulled out; put it back, and it is used again"

_GONE: Final = (errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOMEDIUM)


class SnapshotImage(BlockSource):
    """An exported snapshot. Make one with ``SnapshotImage.open``."""

    __slots__ = (
        "_bad",
        "_cache",
        "_device",
        "_directory",
        "_geometry",
        "_header",
        "_index",
        "_is_gone",
        "_lock",
        "_name",
        "_sysfs",
        "_threads",
        "backup_identity",
        "taken",
    )

    def __init__(self, name: str, directory: int, manifest: Manifest, index: ExtentIndex) -> None:
        self._name = name
        self._directory: int | None = directory
        self._header = header = manifest.header
        self._index = index
        self._geometry = SourceGeometry(header.size, header.block_size, f"image.{manifest.sha256}")
        self.backup_identity = header.backup_identity
        """Of the backup that this is a snapshot of."""
        self.taken = header.taken
        self._threads = IoThreads("image-io", IO_THREADS)
        self._lock = Lock()  # for the two below, which the threads share
        self._cache: OrderedDict[int, bytes | bytearray] = OrderedDict()
        self._bad: dict[int, str] = {}
        self._is_gone = False
        self._device = os.fstat(directory).st_dev
        self._sysfs = _sysfs_of(self._device)

    @classmethod
    def open(cls, path: str) -> SnapshotImage:
        """Open the directory *path* and check its manifest and index. Blocking: a second a TiB.

        Raises:
            BadImageError: it holds no complete snapshot, or its manifest or index is damaged.
        """
        try:
            directory = open_directory(path)
        except (OSError, ValueError) as error:
            raise BadImageError(path, _reason(error)) from error
        try:
            return cls(path, directory, *_load(directory))
        except (OSError, ValueError) as error:
            os.close(directory)
            raise BadImageError(path, _reason(error)) from error
        except BaseException:
            os.close(directory)
            raise

    @property
    def name(self) -> str:
        """The directory's path."""
        return self._name

    @property
    def geometry(self) -> SourceGeometry:
        """Sizes as the manifest has them; the identity is the manifest's digest."""
        return self._geometry

    @property
    def device_number(self) -> tuple[int, int]:
        """Major and minor of the file system's device; major 0 if it has none of its own."""
        return os.major(self._device), os.minor(self._device)

    @property
    def last_error(self) -> SourceUnreachableError | None:
        """Why it cannot be read, for the status; None while it can."""
        return None if self.is_reachable else SourceUnreachableError(self._name, _PULLED)

    def disk_removed(self) -> None:
        """Take note that the disk was pulled out; what is read from now on fails at once."""
        self._is_gone = True

    @property
    def is_reachable(self) -> bool:
        """False once closed, or once the disk was pulled out."""
        return self._directory is not None and not self._is_gone

    def read_into(self, offset: int, buffers: Buffers) -> Future[None]:
        """Fill *buffers* with checked bytes.

        The future fails with BadExtentError (damaged: these bytes, for good) or
        SourceUnreachableError (the disk is gone).
        """
        self._check(offset, total_length(buffers))
        if self._directory is not None and not self._is_gone:
            return self._threads.submit(self._read, self._directory, offset, buffers)
        reason = _PULLED if self._directory is not None else "it was closed"
        future: Future[None] = get_running_loop().create_future()
        future.set_exception(SourceUnreachableError(self._name, reason))
        return future

    def extents(self, extent: Extent) -> Future[list[tuple[ExtentKind, int]]]:
        """Tell the holes, from the index; the future is done already."""
        if self._directory is None:
            return BlockSource.extents(self, extent)
        self._check(extent.offset, extent.length)
        found: list[tuple[ExtentKind, int]] = []
        for number, part in self._pieces(extent):
            kind = ExtentKind.DATA if self._index.find(number) else ExtentKind.ZERO
            if found and found[-1][0] is kind:
                found[-1] = (kind, found[-1][1] + part.length)
            else:
                found.append((kind, part.length))
        future: Future[list[tuple[ExtentKind, int]]] = get_running_loop().create_future()
        future.set_result(found)
        return future

    async def close(self) -> None:
        """Wait for the calls in flight, then let the directory go, so that it can be unmounted."""
        directory, self._directory = self._directory, None
        await self._threads.close()
        if directory is not None:
            os.close(directory)
        self._cache.clear()

    def _check(self, offset: int, length: int) -> None:
        assert offset >= 0
        assert offset + length <= self._geometry.size
        assert offset % self._geometry.block_size == 0
        assert length % self._geometry.block_size == 0

    def _pieces(self, extent: Extent) -> list[tuple[int, Extent]]:
        """Return the numbers of the stored extents that *extent* touches, with what it touches."""
        size, pieces, position = self._header.extent_size, [], extent.offset
        while position < extent.end:
            number = position // size
            end = min((number + 1) * size, extent.end)
            pieces.append((number, Extent(position, end - position)))
            position = end
        return pieces

    # --- in a thread ---------------------------------------------------------------------

    def _read(self, directory: int, offset: int, buffers: Buffers) -> None:
        length = total_length(buffers)
        if not length:
            return
        for number, part in self._pieces(Extent(offset, length)):
            target = slice_buffers(buffers, offset=part.offset - offset, length=part.length)
            record = self._index.find(number)
            if record is None:
                copy_into(target, (memoryview(bytes(part.length)),))
                continue
            try:
                self._read_extent(directory, record, part, target)
            except (OSError, ValueError) as error:
                raise self._failure(number, error) from error

    def _read_extent(self, directory: int, record: Record, part: Extent, target: Buffers) -> None:
        """Fill *target* with *part*, a part of the extent of *record*."""
        number = record.extent
        with self._lock:
            data, known = self._cache.get(number), self._bad.get(number)
        if known is not None:
            raise ValueError(known)
        length = self._header.extent_length(number)
        if data is None and record.codec == Codec.RAW and part.length == length:
            _fill_raw(directory, record, target)  # a merge: no copy, and never asked again
            return
        if data is None:
            payload = bytearray(record.length)
            _fill_from_part(directory, record, (memoryview(payload),))
            data = unpack(record.codec, payload, length=length, digest=record.digest)
            self._keep(number, data)
        start = part.offset - number * self._header.extent_size
        copy_into(target, (memoryview(data)[start : start + part.length],))

    def _keep(self, number: int, data: bytes | bytearray) -> None:
        with self._lock:
            self._cache[number] = data
            while len(self._cache) > CACHED_EXTENTS:
                self._cache.popitem(last=False)

    def _failure(self, number: int, error: OSError | ValueError) -> SourceError:
        """Return what to raise for extent *number*, and remember it: reading again won't help."""
        reason = _reason(error)
        if isinstance(error, OSError) and (error.errno in _GONE or self._was_pulled()):
            self._is_gone = True
            return SourceUnreachableError(self._name, _PULLED)
        with self._lock:
            if len(self._bad) < BAD_EXTENTS_KNOWN:
                self._bad[number] = reason
        offset = number * self._header.extent_size
        text = f"extent {offset}+{self._header.extent_length(number)} is bad: {reason}"
        return BadExtentError(self._name, text, offset, self._header.extent_length(number))

    def _was_pulled(self) -> bool:
        """Whether the block device below is no longer there: then no extent is to blame.

        Its reads fail a moment before it goes from /sys, so one that is there is looked at again.
        """
        end = time.monotonic() + PULL_SECONDS
        while self._sysfs and not self._is_gone:
            if not os.path.exists(self._sysfs):
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(PULL_SECONDS / 10)
        return self._is_gone


def _load(directory: int) -> tuple[Manifest, ExtentIndex]:
    try:
        manifest = parse_manifest(read_file(directory, MANIFEST_NAME, MANIFEST_LENGTH_MAX))
    except ValueError as error:
        raise ValueError(f"{MANIFEST_NAME}: {error}") from error
    length = manifest.index_records * RECORD_SIZE
    data = read_file(directory, INDEX_NAME, length)
    if len(data) != length or hashlib.sha256(data).hexdigest() != manifest.index_sha256:
        raise ValueError(f"{INDEX_NAME} is damaged: its length or digest does not fit")
    return manifest, ExtentIndex(data, manifest.header)


def _fill_from_part(directory: int, record: Record, buffers: Buffers) -> None:
    descriptor = open_file(directory, part_name(record.part))
    try:
        fill(descriptor, record.offset, buffers)
    finally:
        os.close(descriptor)


def _fill_raw(directory: int, record: Record, target: Buffers) -> None:
    """Read a whole extent to where it is wanted, and check it there."""
    _fill_from_part(directory, record, target)
    digest = hashlib.sha256()
    for part in target:
        digest.update(part)
    if digest.digest() != record.digest:
        raise ValueError("its digest does not fit")


def _sysfs_of(number: int) -> str:
    """Return the device's entry in /sys, or nothing where there is none (a network mount)."""
    path = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    return path if os.path.exists(path) else ""


def _reason(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return str(error)
    return f"{error.filename or ''} {reason_of(error)}".strip()
