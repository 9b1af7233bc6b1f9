"""Where each extent of an exported snapshot lies, and its digest: ``extents.idx``. Pure.

One record of 56 bytes for each extent that is not all zeros, little-endian::

    8  extent    its number: offset in the snapshot / extent size
    4  part      the data file: data-<part, six digits>
    4  offset    bytes, in that file
    4  length    bytes, as stored
    4  codec     0 raw, 1 zstd (one frame)
   32  digest    SHA-256 of the extent's own bytes

Records ascend by extent and by place, and no two places overlap. An extent without a record is
zeros. While an export is under way the same file is its journal: a record is appended when the
bytes it tells of are durable.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from .image_manifest import PART_SIZE, ImageHeader

_RECORD: Final = struct.Struct("<QIIII32s")
RECORD_SIZE: Final = _RECORD.size
assert RECORD_SIZE == 56  # noqa: PLR2004 - the format


class Codec(IntEnum):
    """How an extent is stored."""

    RAW = 0
    ZSTD = 1


class Record(NamedTuple):
    """One extent; fields as in the file."""

    extent: int
    part: int
    offset: int
    length: int
    codec: int
    digest: bytes

    def encode(self) -> bytes:
        """Return the record's bytes."""
        return _RECORD.pack(*self)


def part_name(part: int) -> str:
    """Return the name of data file *part*."""
    return f"data-{part:06d}"


_RAW: Final = int(Codec.RAW)
_ZSTD: Final = int(Codec.ZSTD)

_Fields = tuple[int, int, int, int, int, bytes]


def parse_records(data: bytes, header: ImageHeader) -> Iterator[Record]:
    """Yield the records of *data*, each checked against *header* and the one before it.

    Raises:
        ValueError: the next record is impossible; those before it were not.
    """
    return map(Record._make, _checked(data, header))


def _checked(data: bytes, header: ImageHeader) -> Iterator[_Fields]:
    """Do as ``parse_records``, in a flat loop without objects: a TiB has a million records."""
    count, usual = header.extent_count, header.extent_size
    final = header.extent_length(count - 1)
    extent_before, end_before = -1, 0
    for fields in _RECORD.iter_unpack(data):
        extent, part, offset, length, codec, _ = fields
        whole = usual if extent < count - 1 else final
        fits = length == whole if codec == _RAW else codec == _ZSTD and length < whole
        if extent >= count or not fits or length == 0 or offset + length > PART_SIZE:
            raise ValueError(f"the index has an impossible place for extent {extent}")
        begins = (part << 32) + offset
        if extent <= extent_before or begins < end_before:
            raise ValueError(f"the index is out of order at extent {extent}")
        extent_before, end_before = extent, begins + length
        yield fields


class ExtentIndex:
    """A checked index in memory: 64 bytes an extent, 64 MiB for a TiB without holes."""

    __slots__ = ("_data", "_numbers")

    def __init__(self, data: bytes, header: ImageHeader) -> None:
        """Check *data* wholly. Raises ValueError with the reason."""
        if len(data) % RECORD_SIZE:
            raise ValueError("the index is cut off")
        self._data = data
        self._numbers = array("Q", (fields[0] for fields in _checked(data, header)))

    def __len__(self) -> int:
        return len(self._numbers)

    def find(self, number: int) -> Record | None:
        """Return the record of extent *number*; None if it is zeros."""
        at = bisect_left(self._numbers, number)
        if at == len(self._numbers) or self._numbers[at] != number:
            return None
        return Record(*_RECORD.unpack_from(self._data, at * RECORD_SIZE))
