"""A manifest is kept to the letter, and a hostile one is only ever refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.sources.image_manifest import (
    MANIFEST_LENGTH_MAX,
    SIZE_MAX,
    ImageHeader,
    Manifest,
    _digest,
    encode_header,
    encode_manifest,
    parse_header,
    parse_manifest,
)

HEADER = ImageHeader("naa.1", "file.1.2", "2026-01-02T03:04:05+00:00", 10 << 20, 512)
MANIFEST = Manifest(HEADER, 3, "ab" * 32)


def sealed(**change: Any) -> bytes:
    """A manifest with other fields, and the digest that belongs to them."""
    content = json.loads(encode_manifest(MANIFEST))["content"] | change
    content = {name: value for name, value in content.items() if value is not ...}
    return json.dumps({"content": content, "sha256": _digest(content)}).encode()


@given(
    st.text(min_size=1, max_size=200).filter(str.isprintable),
    st.integers(1, SIZE_MAX // 4096),
    st.sampled_from([512, 4096]),
    st.sampled_from(["none", "zstd"]),
)
def test_what_is_encoded_is_parsed_again(
    identity: str, blocks: int, block_size: int, compression: str
) -> None:
    header = replace(
        HEADER,
        backup_identity=identity,
        size=blocks * block_size,
        block_size=block_size,
        compression=compression,
    )
    assert parse_header(encode_header(header)) == header
    manifest = Manifest(header, header.extent_count, "0" * 64)
    assert replace(parse_manifest(encode_manifest(manifest)), sha256="") == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"size": -512},
        {"size": 1000},
        {"size": 2**60 + 512},
        {"size": 10**30},
        {"size": "5"},
        {"size": True},
        {"size": 5.0},
        {"size": None},
        {"size": ...},
        {"block_size": 0},
        {"block_size": 3},
        {"block_size": 1 << 30},
        {"extent_size": 0},
        {"extent_size": 1},
        {"extent_size": 1 << 40},
        {"compression": "bzip2"},
        {"taken": "yesterday"},
        {"taken": "2026-01-02"},
        {"backup_identity": ""},
        {"backup_identity": "a\nb"},
        {"backup_identity": "\ud800"},
        {"backup_identity": "x" * 2000},
        {"backup_identity": ["naa.1"]},
        {"source_identity": ...},
        {"index_records": 11},
        {"index_records": -1},
        {"index_sha256": "../../etc/shadow"},
        {"index_sha256": "AB" * 32},
        {"version": 2},
        {"format": "something else"},
        {"data": "../../etc/passwd"},
    ],
    ids=str,
)
def test_impossible_field_is_refused_also_with_a_right_digest(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_manifest(sealed(**change))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"content": [], "sha256": ""}',
        b'{"content": {}, "sha256": ""}',
        b'{"content": {}, "content": {}, "sha256": ""}',
        b'{"content": {"size": NaN}, "sha256": ""}',
        b'{"content": {"size": 1e400}, "sha256": ""}',
        b'{"content": {"size": ' + b"9" * 5000 + b'}, "sha256": ""}',
        b"[" * 60_000,
        b'{"content":' * 6000,
        b" " * (MANIFEST_LENGTH_MAX + 1),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_manifest(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_manifest(data)


@given(st.integers(0, len(encode_manifest(MANIFEST)) - 1), st.integers(1, 255))
def test_one_changed_byte_is_noticed_or_changes_nothing(at: int, change: int) -> None:
    data = bytearray(encode_manifest(MANIFEST))
    data[at] ^= change
    try:
        found = parse_manifest(bytes(data))
    except ValueError:
        return
    assert replace(found, sha256="") == MANIFEST  # white space


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)


@given(st.sampled_from(sorted(json.loads(encode_manifest(MANIFEST))["content"])), _JSON)
def test_any_value_in_any_field_is_parsed_or_refused(name: str, value: Any) -> None:
    try:
        data = sealed(**{name: value})
        found = parse_manifest(data)
    except ValueError:
        return
    assert found.header.size % found.header.block_size == 0
    assert 0 < found.header.size <= SIZE_MAX
    assert 0 <= found.index_records <= found.header.extent_count
