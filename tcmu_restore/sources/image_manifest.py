"""What an exported snapshot says of itself: ``manifest.json``. Pure; no I/O.

A snapshot that travels is a directory, the *image*::

    manifest.json     what it is; written last, so that its presence means: complete
    extents.idx       one record an extent that is not all zeros; see ``image_index``
    data-000000 ...   their bytes, one after another, in files of at most 1 GiB
    unfinished.json   instead of the manifest while an export is under way

Both JSON files are ``{"content": {…}, "sha256": "…"}``: the digest is over *content* as
``json.dumps`` writes it with sorted keys and no spaces. Digests find what a disk or a courier
damaged. They don't find what somebody wrote on purpose together with matching digests.

Whatever is parsed here is hostile: it came on a disk that somebody plugged in. The content is
flat, its keys are exactly those of the version, and no field names a file.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from ..units import KiB, MiB

FORMAT: Final = "tcmu-restore snapshot"
VERSION: Final = 1

MANIFEST_NAME: Final = "manifest.json"
UNFINISHED_NAME: Final = "unfinished.json"
INDEX_NAME: Final = "extents.idx"

EXTENT_SIZE: Final = 1 * MiB
"""Bytes a digest covers: one step of a merge, and what one flipped bit costs on the live link."""

PART_SIZE: Final = 1024 * MiB
"""The longest data file: every file system of a removable disk can hold it, FAT too."""

MANIFEST_LENGTH_MAX: Final = 64 * KiB
"""Bytes; a real one has less than 4 KiB, of which most is identities."""

SIZE_MAX: Final = 2**60
"""An exbibyte: keeps every number of an image far below what overflows anywhere."""

_TEXT_LENGTH_MAX: Final = 1024
_DIGITS_MAX: Final = 19
_BLOCK_SIZES: Final = frozenset(512 << shift for shift in range(8))
_EXTENT_SIZES: Final = frozenset(64 * KiB << shift for shift in range(9))
_SHA256: Final = re.compile("[0-9a-f]{64}")

COMPRESSIONS: Final = ("none", "zstd")
"""What may be done to an extent; one that does not get smaller is stored as it is."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What is known before the first byte is copied. Sizes are bytes."""

    backup_identity: str
    """Of the backup LUN that it is a snapshot of, as the primary's host sees it."""

    source_identity: str
    """Of the snapshot that was read; tells two snapshots of one backup apart."""

    taken: str
    """When the export began, in ISO 8601 with its offset from UTC."""

    size: int
    block_size: int
    extent_size: int = EXTENT_SIZE
    compression: str = COMPRESSIONS[0]

    @property
    def extent_count(self) -> int:
        """The number of extents, a shorter last one included."""
        return -(-self.size // self.extent_size)

    def extent_length(self, number: int) -> int:
        """Return the bytes of extent *number*; the last one may be shorter."""
        return min(self.extent_size, self.size - number * self.extent_size)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A complete image: its header, and what its index must be."""

    header: ImageHeader
    index_records: int
    index_sha256: str
    sha256: str = ""
    """The manifest's own digest; names the image. Filled in by ``parse_manifest``."""


def encode_header(header: ImageHeader) -> bytes:
    """Return the bytes of ``unfinished.json``. Inverse: ``parse_header``."""
    return _encode(_content(header))


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json``. Inverse: ``parse_manifest``."""
    extra = {"index_records": manifest.index_records, "index_sha256": manifest.index_sha256}
    return _encode(_content(manifest.header) | extra)


def parse_header(data: bytes) -> ImageHeader:
    """Return what ``unfinished.json`` says. Raises ValueError with the reason."""
    content, _ = _decode(data)
    return _header(content)


def parse_manifest(data: bytes) -> Manifest:
    """Return what ``manifest.json`` says. Raises ValueError with the reason."""
    content, digest = _decode(data)
    records = _take_int(content, "index_records")
    index_sha256 = _take_text(content, "index_sha256")
    header = _header(content)
    if not _SHA256.fullmatch(index_sha256):
        raise ValueError("index_sha256 is not a digest")
    if records > header.extent_count:
        raise ValueError(f"it lists {records} extents where {header.extent_count} fit")
    return Manifest(header, records, index_sha256, digest)


def _content(header: ImageHeader) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION} | asdict(header)


def _encode(content: dict[str, Any]) -> bytes:
    document = {"content": content, "sha256": _digest(content)}
    return json.dumps(document, sort_keys=True, indent=1).encode("ascii") + b"\n"


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _decode(data: bytes) -> tuple[dict[str, Any], str]:
    """Return the content and its digest, which is right; the fields are not looked at yet."""
    if len(data) > MANIFEST_LENGTH_MAX:
        raise ValueError(f"it is longer than {MANIFEST_LENGTH_MAX} bytes")
    try:
        document = json.loads(
            data.decode("utf-8"),
            parse_int=_parse_int,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not the JSON that was expected ({error})") from error
    is_ours = isinstance(document, dict) and set(document) == {"content", "sha256"}
    if not is_ours or not isinstance(document["content"], dict):
        raise ValueError("it is not the manifest of a snapshot")
    content, digest = document["content"], document["sha256"]
    if any(type(value) not in (str, int) for value in content.values()):
        raise ValueError("a field is neither a text nor a number")
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ValueError(f"its format is not {FORMAT!r} version {VERSION}")
    if digest != _digest(content):
        raise ValueError("its digest does not fit: it is damaged")
    return content, str(digest)


def _header(content: dict[str, Any]) -> ImageHeader:
    del content["format"], content["version"]
    header = ImageHeader(
        _take_text(content, "backup_identity"),
        _take_text(content, "source_identity"),
        _take_text(content, "taken"),
        _take_int(content, "size"),
        _take_int(content, "block_size"),
        _take_int(content, "extent_size"),
        _take_text(content, "compression"),
    )
    if content:
        raise ValueError(f"it has unknown fields: {', '.join(sorted(content))[:100]!r}")
    check_header(header)
    return header


def check_header(header: ImageHeader) -> None:
    """Raise ValueError, with the reason, unless *header* is one that this version can keep."""
    for text in (header.backup_identity, header.source_identity):
        if not 0 < len(text) <= _TEXT_LENGTH_MAX or not text.isprintable():
            raise ValueError("an identity is empty, too long or not printable")
    if header.block_size not in _BLOCK_SIZES:
        raise ValueError(f"a block of {header.block_size} bytes is not possible")
    if header.extent_size not in _EXTENT_SIZES:
        raise ValueError(f"an extent of {header.extent_size} bytes is not possible")
    if not 0 < header.size <= SIZE_MAX or header.size % header.block_size:
        raise ValueError(f"a size of {header.size} bytes is not possible")
    if header.compression not in COMPRESSIONS:
        raise ValueError("its compression is unknown")
    # any character may separate its parts, says the library
    if not header.taken.isprintable() or datetime.fromisoformat(header.taken).tzinfo is None:
        raise ValueError("the time it was taken is no time with an offset from UTC")


def _take_text(content: dict[str, Any], name: str) -> str:
    value = content.pop(name, None)
    if type(value) is not str or len(value) > _TEXT_LENGTH_MAX:
        raise ValueError(f"{name} is missing or not a text")
    return value


def _take_int(content: dict[str, Any], name: str) -> int:
    value = content.pop(name, None)
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is missing or not a number")
    return value


def _parse_int(digits: str) -> int:
    if len(digits) > _DIGITS_MAX:
        raise ValueError("a number is too large")
    return int(digits)


def _refuse_number(text: str) -> int:
    raise ValueError(f"{text[:20]!r} is not a whole number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found
