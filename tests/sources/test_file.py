"""A local disk's errors, exclusiveness and holes."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.extent import Extent
from tcmu_restore.errors import (
    PrimaryInUseError,
    PrimaryUnusableError,
    SourceFlushError,
    SourceReadError,
    SourceWriteError,
)
from tcmu_restore.sources import file
from tcmu_restore.sources.base import ExtentKind
from tcmu_restore.sources.file import FileStore, check_unused
from tcmu_restore.units import MiB
from tests.sources.loop_device import loop_device


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.touch()
    os.truncate(path, 4 * MiB)
    return path


def test_missing_path_folder_and_odd_size_are_unusable(tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_bytes(b"x" * 1000)
    empty = tmp_path / "empty"
    empty.touch()
    for path in (tmp_path / "none", tmp_path, odd, empty, Path("/dev/null"), Path("a\0b")):
        with pytest.raises(PrimaryUnusableError):
            FileStore.open(path)


def test_second_writer_of_a_file_is_refused(disk: Path) -> None:
    async def main() -> None:
        store = FileStore.open(disk)
        with pytest.raises(PrimaryInUseError, match="locked"):
            FileStore.open(disk)
        with pytest.raises(PrimaryInUseError):
            check_unused(str(disk))
        await store.close()
        check_unused(str(disk))

    asyncio.run(main())


def test_two_readers_of_a_file_are_fine(disk: Path) -> None:
    async def main() -> None:
        first = FileStore.open(disk, read_only=True)
        second = FileStore.open(disk, read_only=True)
        assert first.geometry == second.geometry
        await first.close()
        await second.close()

    asyncio.run(main())


def test_block_device_is_held_exclusively(disk: Path) -> None:
    async def main(device: str) -> None:
        store = FileStore.open(device)
        with pytest.raises(PrimaryInUseError, match="exclusively"):
            check_unused(device)
        assert store.geometry.identity.startswith("dev.7:")
        await store.close()
        check_unused(device)

    with loop_device(disk) as device:
        asyncio.run(main(device))


def test_mounted_block_device_is_in_use(disk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mnt"
    folder.mkdir()
    if subprocess.run(["mkfs.ext4", "-q", str(disk)], check=False).returncode:
        pytest.skip("needs mkfs.ext4")
    with loop_device(disk) as device:
        if subprocess.run(["mount", device, str(folder)], check=False).returncode:
            pytest.skip("may not mount here")
        try:
            with pytest.raises(PrimaryInUseError, match=f"mounted on {folder}"):
                check_unused(device)
        finally:
            subprocess.run(["umount", str(folder)], check=True)


def test_read_only_store_refuses_to_change_anything(disk: Path) -> None:
    async def main() -> None:
        store = FileStore.open(disk, read_only=True)
        with pytest.raises(SourceWriteError, match="EROFS"):
            await store.write(0, buffers_of(bytes(512)))
        with pytest.raises(SourceWriteError, match="EROFS"):
            await store.zero(Extent(0, 512))
        await store.close()

    asyncio.run(main())


def test_file_that_shrank_is_a_read_error(disk: Path) -> None:
    async def main() -> None:
        store = FileStore.open(disk)
        os.truncate(disk, MiB + 512)
        with pytest.raises(SourceReadError, match="ENODATA"):
            await store.read_into(MiB, buffers_of(bytearray(4096)))
        assert store.read_now(MiB, buffers_of(bytearray(4096))) is False
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("call", "error"),
    [("preadv", SourceReadError), ("pwritev", SourceWriteError), ("fdatasync", SourceFlushError)],
)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOSPC])
def test_os_error_is_translated_with_its_number(
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    error: type[Exception],
    code: int,
) -> None:
    def fail(*_: Any) -> int:
        raise OSError(code, "simulated")

    async def main() -> None:
        store = FileStore.open(disk)
        monkeypatch.setattr(os, call, fail)
        calls: dict[str, Callable[[], asyncio.Future[Any]]] = {
            "preadv": lambda: store.read_into(0, buffers_of(bytearray(512))),
            "pwritev": lambda: store.write(0, buffers_of(bytes(512))),
            "fdatasync": store.flush,
        }
        with pytest.raises(error, match=errno.errorcode[code]):
            await calls[call]()
        assert store.is_reachable is (code not in {errno.ENODEV, errno.ENXIO})
        monkeypatch.undo()
        await store.close()

    asyncio.run(main())


def test_short_transfers_are_continued(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_read, real_write = os.preadv, os.pwritev

    def few(call: Any) -> Any:
        return lambda fd, buffers, offset: call(fd, (buffers[0][:700],), offset)

    async def main() -> None:
        store = FileStore.open(disk)
        monkeypatch.setattr(os, "preadv", few(real_read))
        monkeypatch.setattr(os, "pwritev", few(real_write))
        data = os.urandom(8192)
        parts = tuple(memoryview(data)[start : start + 512] for start in range(0, 8192, 512))
        await store.write(512, parts)
        target = bytearray(8192)
        await store.read_into(512, buffers_of(target))
        assert target == data
        monkeypatch.undo()
        await store.close()

    asyncio.run(main())


def test_zero_without_fallocate_writes_zeros(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_ZERO_MODES", ())

    async def main() -> None:
        store = FileStore.open(disk)
        await store.write(0, buffers_of(b"x" * (4 * MiB)))
        await store.zero(Extent(512, 3 * MiB))
        await store.close()

    asyncio.run(main())
    assert disk.read_bytes() == b"x" * 512 + bytes(3 * MiB) + b"x" * (MiB - 512)


def test_holes_of_a_sparse_file_are_told(disk: Path) -> None:
    async def main() -> None:
        store = FileStore.open(disk)
        await store.write(MiB, buffers_of(b"x" * MiB))
        parts = await store.extents(Extent(0, 4 * MiB))
        await store.close()
        assert parts == [
            (ExtentKind.ZERO, MiB),
            (ExtentKind.DATA, MiB),
            (ExtentKind.ZERO, 2 * MiB),
        ]

    asyncio.run(main())


def test_zero_frees_the_space_of_a_file(disk: Path) -> None:
    async def main() -> None:
        store = FileStore.open(disk)
        await store.write(0, buffers_of(b"x" * (4 * MiB)))
        await store.flush()
        before = os.stat(disk).st_blocks
        await store.zero(Extent(0, 4 * MiB))
        assert os.stat(disk).st_blocks < before
        await store.close()

    asyncio.run(main())


def test_read_now_serves_what_is_cached(disk: Path) -> None:
    async def main() -> None:
        store = FileStore.open(disk)
        await store.write(0, buffers_of(b"c" * 4096))
        target = bytearray(4096)
        assert store.read_now(0, buffers_of(target))
        assert target == b"c" * 4096
        await store.close()

    asyncio.run(main())
