"""Files and strings that strangers may have written are taken or refused, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.engine.definition import Definition, load_definition
from tcmu_restore.engine.shipped_image import find_images
from tcmu_restore.errors import (
    BadDefinitionError,
    BadExtentError,
    BadImageError,
    BadNameError,
    BadUrlError,
)
from tcmu_restore.handler.volume_name import volume_name
from tcmu_restore.options import VOLUME_NAME
from tcmu_restore.sources.credentials import load_credentials
from tcmu_restore.sources.image_index import Codec, ExtentIndex, Record
from tcmu_restore.sources.image_manifest import (
    SIZE_MAX,
    ImageHeader,
    Manifest,
    _digest,
    encode_manifest,
    parse_manifest,
)
from tcmu_restore.sources.iscsi_url import parse_iscsi_url
from tcmu_restore.sources.snapshot_image import SnapshotImage

from .hostile import TOKENS, fuzzed, is_one_sentence, tampered

DEFINITION = b"""primary = "/dev/sdx"
mirror = "async"

[backup]
url = "iscsi://192.0.2.1/iqn.2024-01.test:b/0"
credentials = "/root/chap.toml"

[shipped]
mount = true

[options]
merge_step = 4096
hold_seconds = 1.5
"""
SECRET = "opensesame-secret"
CREDENTIALS = f'user = "u"\npassword = "{SECRET}"\n'.encode()
URL = "iscsi://[2001:db8::1]:3260/iqn.2024-01.test:disk/7"
HEADER = ImageHeader("naa.1", "file.1", "2026-01-02T03:04:05+00:00", 8 << 20, 512, 1 << 16)
MANIFEST = encode_manifest(Manifest(HEADER, 1, "ab" * 32))


@contextmanager
def private(content: bytes) -> Iterator[Path]:
    """A file of mode 0600, as the definition of the volume v."""
    with tempfile.TemporaryDirectory(prefix="tr") as folder:
        path = Path(folder) / "v.toml"
        path.touch(mode=0o600)
        path.write_bytes(content)
        yield path


def refused_with(kind: type[Exception], parse: Callable[[], Any]) -> str:
    """Return the sentence with which *parse* refuses; empty if it takes it."""
    said: Exception | None = None
    try:
        parse()
    except kind as error:
        said = error
    assert said is None or is_one_sentence(said), repr(str(said))
    return str(said or "")


@fuzzed
@given(tampered(DEFINITION))
def test_definition(content: bytes) -> None:
    with private(content) as path:

        def load() -> None:
            assert isinstance(load_definition(path.parent, "v"), Definition)

        refused_with(BadDefinitionError, load)


@pytest.mark.parametrize(
    "content",
    [
        b"a = " + b"[" * 50_000,
        b"x" * (1 << 20),
        DEFINITION.replace(b"1.5", b"nan"),
        DEFINITION.replace(b"1.5", b"inf"),
        DEFINITION.replace(b"4096", b"9" * 4000),
        DEFINITION.replace(b"4096", b"1_000_000_000_000"),
        DEFINITION.replace(b"true", b'"yes"'),
        DEFINITION + b"[shipped.more]\n",
    ],
)
def test_definition_that_is_a_bomb_is_refused(content: bytes) -> None:
    with private(content) as path:
        assert refused_with(BadDefinitionError, lambda: load_definition(path.parent, "v"))


@pytest.mark.parametrize(
    "content",
    [
        DEFINITION + b'"\\u001b[2J" = true\n',
        DEFINITION.replace(b"async", b"\\u001b[2J\\n"),
    ],
)
def test_what_a_terminal_obeys_is_written_out(content: bytes) -> None:
    with private(content) as path:
        said = refused_with(BadDefinitionError, lambda: load_definition(path.parent, "v"))
    assert "\\x1b[2J" in said


@fuzzed
@given(tampered(CREDENTIALS))
def test_credentials_and_their_secret_is_never_repeated(content: bytes) -> None:
    with private(content) as path:
        assert SECRET not in refused_with(BadDefinitionError, lambda: load_credentials(path))


def test_secret_in_the_wrong_place_is_not_repeated() -> None:
    for content in (f"{SECRET} = 1\n", f'"{SECRET}"\n', f"user = {SECRET}\n", "a = " + "[" * 3000):
        with private(content.encode()) as path:
            said = refused_with(BadDefinitionError, partial(load_credentials, path))
        assert said
        assert SECRET not in said


@fuzzed
@given(st.one_of(st.text(max_size=700), tampered(URL.encode()).map(lambda b: b.decode("latin-1"))))
def test_url(text: str) -> None:
    def parse() -> None:
        found = parse_iscsi_url(text)
        assert parse_iscsi_url(str(found)) == found
        assert str(found).isascii()
        assert str(found).isprintable()

    refused_with(BadUrlError, parse)


@fuzzed
@given(st.one_of(st.text(max_size=300), st.from_regex(r"restore/.{0,80}(;tcmur_x=1)?")))
def test_config_string(text: str) -> None:
    def parse() -> None:
        assert VOLUME_NAME.fullmatch(volume_name(text))

    refused_with(BadNameError, parse)


@fuzzed
@given(tampered(MANIFEST))
def test_manifest(content: bytes) -> None:
    def parse() -> None:
        header = parse_manifest(content).header
        for text in (header.backup_identity, header.source_identity, header.taken):
            assert text.isprintable()

    assert len(_said(parse)) < 2000


def _said(parse: Callable[[], None]) -> str:
    """A ValueError's reason; it becomes part of a BadImageError, which makes it printable."""
    try:
        parse()
    except ValueError as error:
        return str(error)
    return ""


VALUES = st.one_of(
    st.integers(-1, SIZE_MAX + 1),
    st.integers(),
    st.sampled_from([*(token.decode("latin-1") for token in TOKENS), "x" * 2000, "", None, True]),
    st.text(max_size=40),
)


@fuzzed
@given(st.dictionaries(st.sampled_from([*json.loads(MANIFEST)["content"], "more"]), VALUES))
def test_manifest_with_a_right_digest_over_wrong_fields(change: dict[str, Any]) -> None:
    content = json.loads(MANIFEST)["content"] | change
    sealed = json.dumps({"content": content, "sha256": _digest(content)}).encode()
    try:
        header = parse_manifest(sealed).header
    except ValueError:
        return
    assert header.taken.isprintable()
    assert 0 < header.size <= SIZE_MAX
    assert header.extent_count * header.extent_size >= header.size


@fuzzed
@given(st.binary(max_size=56 * 4), st.integers(1, 64))
def test_index(data: bytes, extents: int) -> None:
    header = ImageHeader("a", "b", HEADER.taken, extents << 16, 512, 1 << 16)
    try:
        index = ExtentIndex(data, header)
    except ValueError:
        return
    for number in range(extents):
        record = index.find(number)
        assert record is None or 0 < record.length <= header.extent_size


@pytest.mark.parametrize("separator", ["\x1b", "\n", "\N{RIGHT-TO-LEFT OVERRIDE}"])
def test_time_with_what_a_terminal_obeys_in_it_is_refused(separator: str) -> None:
    content = json.loads(MANIFEST)["content"]
    content["taken"] = content["taken"].replace("T", separator)
    sealed = json.dumps({"content": content, "sha256": _digest(content)}).encode()
    with pytest.raises(ValueError, match="no time"):
        parse_manifest(sealed)


@fuzzed
@given(tampered(MANIFEST), tampered(bytes(56)), st.sampled_from(["file", "link", "fifo", "folder"]))
def test_disk_with_anything_in_place_of_an_image(manifest: bytes, index: bytes, kind: str) -> None:
    with tempfile.TemporaryDirectory(prefix="tr") as top:
        folder = Path(top) / "image"
        folder.mkdir()
        make: dict[str, Callable[[Path], Any]] = {
            "file": lambda path: path.write_bytes(manifest),
            "link": lambda path: path.symlink_to("/etc/shadow"),
            "fifo": os.mkfifo,
            "folder": os.mkdir,
        }
        make[kind](folder / "manifest.json")
        (folder / "extents.idx").write_bytes(index)
        refused_with(BadImageError, lambda: SnapshotImage.open(str(folder)))
        for image in find_images(top):
            assert (kind, image.path) == ("file", str(folder))


@pytest.mark.parametrize("kind", ["link", "fifo", "device"])
def test_data_file_that_leads_elsewhere_is_a_bad_extent(tmp_path: Path, kind: str) -> None:
    """The index holds numbers, no names: only a link or the like could point out of the image."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"s" * (1 << 16))
    folder = tmp_path / "image"
    folder.mkdir()
    digest = hashlib.sha256(outside.read_bytes()).digest()
    index = Record(0, 0, 0, 1 << 16, Codec.RAW, digest).encode()
    (folder / "extents.idx").write_bytes(index)
    manifest = Manifest(HEADER, 1, hashlib.sha256(index).hexdigest())
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    data = folder / "data-000000"
    if kind == "device":
        data.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(data)
    else:
        data.symlink_to(outside)

    async def go() -> None:
        image = SnapshotImage.open(str(folder))
        try:
            with pytest.raises(BadExtentError) as caught:
                await asyncio.wait_for(image.read_into(0, buffers_of(bytearray(1 << 16))), 20)
            assert is_one_sentence(caught.value)
        finally:
            await image.close()

    asyncio.run(go())
