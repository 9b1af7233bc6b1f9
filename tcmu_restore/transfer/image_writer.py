"""Writes an exported snapshot's directory; takes up an unfinished one. Blocking.

The order that makes a power cut harmless: bytes, fsync, then their records, fsync; at the end the
manifest, under another name first. So a record's bytes are always on the disk, and a manifest's
records too. ``take_up`` checks it all the same, since removable disks lie about fsync.

``append`` and ``finish`` raise SourceWriteError; what was recorded stays, and a later run goes on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import ExportRefusedError, SourceWriteError
from ..sources.block_device import reason_of
from ..sources.image_directory import fill, open_directory, open_file
from ..sources.image_extent import PackedExtent, unpack
from ..sources.image_index import RECORD_SIZE, Record, parse_records, part_name
from ..sources.image_manifest import (
    INDEX_NAME,
    MANIFEST_NAME,
    PART_SIZE,
    UNFINISHED_NAME,
    ImageHeader,
    Manifest,
    encode_manifest,
)
from ..units import MiB
from .claim import claim
from .durable import create_file, sync_directory, write_all

SYNC_BYTES: Final = 64 * MiB
"""Stored bytes between two journal entries: what an interruption costs at most, and a second or so
of a USB disk."""


class ImageWriter:
    """An export under way. Make one with ``ImageWriter.open``; for one thread at a time."""

    header: ImageHeader

    def __init__(self, path: Path, directory: int) -> None:
        self.next_extent = 0
        """Extents below it need not be read: they are stored, or were zeros."""
        self.stored_bytes = 0
        self.path = path
        self._directory = directory
        self._lock = -1
        self._index = -1
        self._part = 0
        self._part_descriptor = -1
        self._offset = 0
        self._unrecorded: list[Record] = []
        self._unsynced = 0

    @classmethod
    def open(
        cls, path: Path, header: ImageHeader, verified: Callable[[int], None] = lambda count: None
    ) -> ImageWriter:
        """Begin in *path*, or go on with an unfinished export of the same snapshot.

        *verified* is told the number of stored extents that were read back, one by one.

        Raises:
            ExportRefusedError: it holds something else, or is not usable; nothing was changed.
        """
        try:
            directory = open_directory(path)
        except OSError as error:
            raise ExportRefusedError(str(path), reason_of(error)) from error
        writer = cls(path, directory)
        try:
            writer._lock, writer.header = claim(str(path), directory, header)
            writer._take_up(verified)
        except OSError as error:
            writer.close()
            raise ExportRefusedError(str(path), reason_of(error)) from error
        except BaseException:
            writer.close()
            raise
        return writer

    def append(self, number: int, packed: PackedExtent) -> None:
        """Store extent *number*; numbers ascend. Not durable yet. Raises SourceWriteError."""
        assert number >= self.next_extent
        length = len(packed.payload)
        try:
            if self._offset + length > PART_SIZE:
                self._next_part()
            write_all(self._part_descriptor, packed.payload, self._offset)
            record = Record(number, self._part, self._offset, length, packed.codec, packed.digest)
            self._unrecorded.append(record)
            self._took(record)
            self._unsynced += length
            if self._unsynced >= SYNC_BYTES:
                self._sync()
        except OSError as error:
            raise self._failure(error) from error

    def finish(self) -> Manifest:
        """Make everything durable and the image complete. Raises SourceWriteError."""
        try:
            self._sync()
            length = os.fstat(self._index).st_size
            index = bytearray(length)
            fill(self._index, 0, (memoryview(index),) if length else ())
            digest = hashlib.sha256(index).hexdigest()
            manifest = Manifest(self.header, length // RECORD_SIZE, digest)
            create_file(self._directory, MANIFEST_NAME, encode_manifest(manifest))
            with suppress(OSError):  # it does no harm beside a manifest
                os.unlink(UNFINISHED_NAME, dir_fd=self._directory)
        except OSError as error:
            raise self._failure(error) from error
        return manifest

    @property
    def free_bytes(self) -> int:
        """What the directory's file system has room for now. Raises OSError."""
        found = os.fstatvfs(self._directory)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Let everything go. What is not recorded is written again by the next run."""
        for descriptor in (self._part_descriptor, self._index, self._lock, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._part_descriptor = self._index = self._lock = self._directory = -1

    # --- the journal ----------------------------------------------------------------------

    def _sync(self) -> None:
        os.fsync(self._part_descriptor)
        end = os.fstat(self._index).st_size
        write_all(self._index, b"".join(record.encode() for record in self._unrecorded), end)
        os.fsync(self._index)
        self._unrecorded.clear()
        self._unsynced = 0

    def _next_part(self) -> None:
        self._sync()
        os.close(self._part_descriptor)
        self._part_descriptor = -1
        self._part += 1
        self._offset = 0
        self._open_part()

    def _open_part(self) -> None:
        """Open the present data file, cut off after what is recorded in it."""
        name = part_name(self._part)
        self._part_descriptor = open_file(self._directory, name, os.O_RDWR | os.O_CREAT)
        os.ftruncate(self._part_descriptor, self._offset)
        sync_directory(self._directory)

    def _take_up(self, verified: Callable[[int], None]) -> None:
        """Read back what the journal says is stored, and drop everything behind it."""
        self._index = open_file(self._directory, INDEX_NAME, os.O_RDWR | os.O_CREAT)
        length = min(os.fstat(self._index).st_size, self.header.extent_count * RECORD_SIZE)
        journal = bytearray(length - length % RECORD_SIZE)
        fill(self._index, 0, (memoryview(journal),) if journal else ())
        good = 0
        with suppress(ValueError, OSError):  # what is not right ends what is taken up
            for record in parse_records(bytes(journal), self.header):
                self._verify(record)
                self._took(record)
                good += 1
                verified(good)
        os.ftruncate(self._index, good * RECORD_SIZE)
        self._open_part()

    def _took(self, record: Record) -> None:
        self._part, self._offset = record.part, record.offset + record.length
        self.next_extent = record.extent + 1
        self.stored_bytes += record.length

    def _verify(self, record: Record) -> None:
        payload = bytearray(record.length)
        descriptor = open_file(self._directory, part_name(record.part))
        try:
            fill(descriptor, record.offset, (memoryview(payload),))
        finally:
            os.close(descriptor)
        length = self.header.extent_length(record.extent)
        unpack(record.codec, payload, length=length, digest=record.digest)

    def _failure(self, error: OSError) -> SourceWriteError:
        return SourceWriteError(str(self.path), reason_of(error))
