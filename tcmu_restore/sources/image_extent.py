"""One extent of an exported snapshot: packed for the disk, and back, checked by its digest.

Costs processor time and blocks; to be called from a thread. Both directions let other threads run.
"""

from __future__ import annotations

import hashlib
import threading
from types import ModuleType
from typing import Any, Final, NamedTuple

from .image_index import Codec

ZSTD_LEVEL: Final = 3
"""The library's default: what faster levels gain, the disk and the digest take again."""


class PackedExtent(NamedTuple):
    """What is stored of an extent."""

    codec: Codec
    payload: bytes | bytearray
    digest: bytes


def pack(data: bytearray, *, compress: bool) -> PackedExtent | None:
    """Return what to store for *data*; None if it is all zeros."""
    if data == bytes(len(data)):
        return None
    digest = hashlib.sha256(data).digest()
    if compress:
        payload = _tools().compressor.compress(data)
        if len(payload) < len(data):
            return PackedExtent(Codec.ZSTD, payload, digest)
    return PackedExtent(Codec.RAW, data, digest)


def unpack(codec: int, payload: bytearray, *, length: int, digest: bytes) -> bytes | bytearray:
    """Return the *length* bytes of an extent. Raises ValueError unless they are what was packed."""
    data = payload if codec == Codec.RAW else _decompress(payload, length)
    if len(data) != length or hashlib.sha256(data).digest() != digest:
        raise ValueError("its digest does not fit")
    return data


def can_compress() -> bool:
    """Return whether zstd is installed here."""
    try:
        _zstandard()
    except ImportError:
        return False
    return True


def _decompress(payload: bytearray, length: int) -> bytes:
    try:
        library = _zstandard()
    except ImportError as error:
        raise ValueError("the Python package zstandard is not installed") from error
    try:
        # before a byte is allocated: a frame may claim any size
        parameters = library.get_frame_parameters(payload)
        if parameters.content_size != length:
            raise ValueError("it is not one zstd frame of an extent")
        found = _tools().decompressor.decompress(payload, allow_extra_data=False)
    except library.ZstdError as error:
        raise ValueError(f"it cannot be decompressed ({error})") from error
    return bytes(found)


def _zstandard() -> ModuleType:
    import zstandard  # noqa: PLC0415 - only compressed snapshots need it

    return zstandard


class _Tools(threading.local):
    """zstd contexts: expensive to make, and each for one thread only."""

    def __init__(self) -> None:
        library: Any = _zstandard()
        self.compressor = library.ZstdCompressor(level=ZSTD_LEVEL)
        self.decompressor = library.ZstdDecompressor()


_made: list[_Tools] = []


def _tools() -> _Tools:
    if not _made:
        _made.append(_Tools())
    return _made[0]
