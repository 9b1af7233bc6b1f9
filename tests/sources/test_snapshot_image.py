"""An exported snapshot, as a source: what is damaged fails alone, nothing hostile is followed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import zstandard

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.extent import Extent
from tcmu_restore.errors import BadExtentError, BadImageError, SourceUnreachableError
from tcmu_restore.sources import image_extent
from tcmu_restore.sources.base import ExtentKind
from tcmu_restore.sources.image_extent import pack, unpack
from tcmu_restore.sources.image_index import Codec
from tcmu_restore.sources.image_manifest import _digest
from tcmu_restore.sources.snapshot_image import SnapshotImage
from tcmu_restore.units import MiB
from tests.transfer.images import BACKUP, EXTENT, content, export_file, flip

CONTENT = content(MiB + 512)


@pytest.fixture(params=["none", "zstd"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    disk = tmp_path / "disk"
    disk.write_bytes(CONTENT)
    export_file(disk, tmp_path / "image", compression=request.param)
    return tmp_path / "image"


def using(image: Path, check: Callable[[SnapshotImage], Awaitable[None]]) -> None:
    async def go() -> None:
        source = SnapshotImage.open(str(image))
        try:
            await check(source)
        finally:
            await source.close()

    asyncio.run(go())


async def read(source: SnapshotImage, offset: int, length: int) -> bytes:
    data = bytearray(b"\xee" * length)
    await source.read_into(offset, buffers_of(data))
    return bytes(data)


def test_everything_is_read_back_and_told(image: Path) -> None:
    async def check(source: SnapshotImage) -> None:
        assert source.geometry.size == len(CONTENT)
        assert source.backup_identity == BACKUP
        assert await read(source, 0, len(CONTENT)) == CONTENT
        for offset in (0, 512, EXTENT - 512, EXTENT, 5 * EXTENT - 512, MiB - 1024, MiB):
            length = min(1024, len(CONTENT) - offset)
            assert await read(source, offset, length) == CONTENT[offset : offset + length]
        assert await source.extents(Extent(512, 3 * EXTENT)) == [
            (ExtentKind.DATA, EXTENT - 512),
            (ExtentKind.ZERO, EXTENT),
            (ExtentKind.DATA, EXTENT + 512),
        ]

    using(image, check)


def test_flipped_bit_fails_exactly_its_extent(image: Path) -> None:
    flip(image / "data-000000", 100)

    async def check(source: SnapshotImage) -> None:
        for offset, length in ((0, EXTENT), (512, 512), (0, 4 * EXTENT)):
            with pytest.raises(BadExtentError, match="extent 0") as caught:
                await read(source, offset, length)
            assert (caught.value.offset, caught.value.length) == (0, EXTENT)
            assert not caught.value.retryable
        assert await read(source, EXTENT, MiB - EXTENT) == CONTENT[EXTENT:MiB]
        assert source.is_reachable

    using(image, check)


def test_data_that_is_cut_off_or_missing_fails_only_what_it_held(image: Path) -> None:
    path = image / "data-000000"
    os.truncate(path, path.stat().st_size - 1)

    async def check(source: SnapshotImage) -> None:
        assert await read(source, 0, 15 * EXTENT) == CONTENT[: 15 * EXTENT]
        with pytest.raises(BadExtentError, match="ENODATA"):
            await read(source, 15 * EXTENT, 512)

    using(image, check)
    path.unlink()

    async def check_gone(source: SnapshotImage) -> None:
        assert await read(source, EXTENT, EXTENT) == bytes(EXTENT)
        with pytest.raises(BadExtentError, match="ENOENT"):
            await read(source, 0, 512)

    using(image, check_gone)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_data_that_is_no_regular_file_is_not_opened(image: Path, kind: str) -> None:
    path = image / "data-000000"
    if kind == "link":
        path.rename(image / "other")
        path.symlink_to(image / "other")
    else:
        path.unlink()
        (path.mkdir if kind == "folder" else lambda: os.mkfifo(path))()

    async def check(source: SnapshotImage) -> None:
        with pytest.raises(BadExtentError):
            await read(source, 0, 512)

    using(image, check)


@pytest.mark.parametrize("name", ["manifest.json", "extents.idx"])
@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "missing", "link", "fifo"])
def test_damaged_manifest_or_index_is_refused_in_one_sentence(
    image: Path, name: str, damage: str
) -> None:
    path = image / name
    if damage == "flip":
        flip(path, 40)
    elif damage == "cut":
        os.truncate(path, path.stat().st_size - 56)
    elif damage == "grow":
        path.write_bytes(path.read_bytes() + bytes(1 << 20))
    else:
        path.rename(image / "other")
        if damage == "link":
            path.symlink_to(image / "other")
        elif damage == "fifo":
            os.mkfifo(path)
    with pytest.raises(BadImageError) as caught:
        SnapshotImage.open(str(image))
    assert "\n" not in str(caught.value)
    assert str(image) in str(caught.value)


def test_index_of_another_export_is_refused(image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(content(MiB + 512, seed=8))
    export_file(other, tmp_path / "image2")
    shutil.copy(tmp_path / "image2" / "extents.idx", image / "extents.idx")
    with pytest.raises(BadImageError, match="digest"):
        SnapshotImage.open(str(image))


def test_no_directory_no_manifest_no_image(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("/dev/null"), Path("a\0b")):
        with pytest.raises(BadImageError):
            SnapshotImage.open(str(path))


def test_refused_image_leaks_no_descriptor(image: Path) -> None:
    flip(image / "extents.idx", 0)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(BadImageError):
            SnapshotImage.open(str(image))
    assert len(os.listdir("/proc/self/fd")) == before


def test_huge_hostile_index_is_not_read(image: Path) -> None:
    path = image / "manifest.json"
    fields = json.loads(path.read_text())["content"] | {"size": 2**60, "index_records": 2**40}
    path.write_text(json.dumps({"content": fields, "sha256": _digest(fields)}))
    with pytest.raises(BadImageError, match=r"extents\.idx"):
        SnapshotImage.open(str(image))


def test_disk_that_was_pulled_out_blames_no_extent(image: Path) -> None:
    async def check(source: SnapshotImage) -> None:
        (image / "data-000000").unlink()
        source._sysfs = "/sys/dev/block/gone"
        with pytest.raises(SourceUnreachableError, match="pulled out"):
            await read(source, 0, 512)
        assert not source.is_reachable

    using(image, check)


def test_zstd_frame_that_claims_another_size_is_refused_before_it_is_decompressed() -> None:
    bomb = bytearray(zstandard.ZstdCompressor().compress(bytes(64 * MiB)))
    with pytest.raises(ValueError, match="not one zstd frame"):
        unpack(Codec.ZSTD, bomb, length=EXTENT, digest=bytes(32))
    good = pack(bytearray(b"x" * EXTENT), compress=True)
    assert good is not None
    for payload in (good.payload + b"\0", good.payload * 2, good.payload[:-1], b"", b"\xff" * 99):
        with pytest.raises(ValueError, match=r"."):
            unpack(Codec.ZSTD, bytearray(payload), length=EXTENT, digest=good.digest)


def test_compressed_snapshot_without_zstandard_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> None:
        raise ImportError

    monkeypatch.setattr(image_extent, "_zstandard", missing)
    assert not image_extent.can_compress()
    with pytest.raises(ValueError, match="zstandard is not installed"):
        unpack(Codec.ZSTD, bytearray(b"x"), length=EXTENT, digest=bytes(32))
