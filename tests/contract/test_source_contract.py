"""One suite for every source: what ``sources.base`` promises, checked from outside.

A source is done when it passes here. To add one, write a function that opens it
empty, ``SIZE`` bytes long, and name it in ``OPENERS``.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.core.buffer import Buffers, buffers_of
from tcmu_restore.core.extent import Extent
from tcmu_restore.errors import SourceError
from tcmu_restore.options import IscsiOptions
from tcmu_restore.sources.base import BlockStore, ExtentKind
from tcmu_restore.sources.file import FileStore
from tcmu_restore.sources.iscsi import IscsiStore
from tcmu_restore.sources.iscsi_url import parse_iscsi_url
from tcmu_restore.sources.memory import MemoryStore
from tcmu_restore.units import KiB, MiB
from tests.sources.loop_device import loop_device
from tests.support import tgt
from tests.transfer.rewritten_image import RewrittenImage

SIZE = 16 * MiB
Opener = Callable[[], AbstractAsyncContextManager[BlockStore]]


@contextmanager
def _disk_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="src") as folder:
        path = Path(folder) / "disk"
        path.touch()
        os.truncate(path, SIZE)
        yield path


@asynccontextmanager
async def memory() -> AsyncIterator[BlockStore]:
    yield MemoryStore(SIZE, report_holes=True)


@asynccontextmanager
async def regular_file() -> AsyncIterator[BlockStore]:
    with _disk_file() as path:
        store = FileStore.open(path)
        yield store
        await store.close()


@asynccontextmanager
async def block_device() -> AsyncIterator[BlockStore]:
    with _disk_file() as path, loop_device(path) as device:
        store = FileStore.open(device)
        yield store
        await store.close()


def lun(*, sessions: int = 1, thin: bool = False, header_digest: bool = False) -> Opener:
    @asynccontextmanager
    async def opener() -> AsyncIterator[BlockStore]:
        if tgt.MISSING:
            pytest.skip(tgt.MISSING)
        with _disk_file() as path, tgt.TgtTarget(path.parent, path, thin=thin) as target:
            store = IscsiStore(
                parse_iscsi_url(target.url),
                initiator="iqn.2024-01.test.example:initiator",
                options=IscsiOptions(sessions=sessions, header_digest=header_digest),
            )
            store.start()
            await store.wait_ready(10)
            yield store
            await store.close()

    return opener


def image(compression: str) -> Opener:
    @asynccontextmanager
    async def opener() -> AsyncIterator[BlockStore]:
        with tempfile.TemporaryDirectory(prefix="src") as folder:
            store = RewrittenImage(Path(folder), SIZE, compression=compression)
            yield store
            await store.close()

    return opener


OPENERS: dict[str, Opener] = {
    "memory": memory,
    "file": regular_file,
    "block-device": block_device,
    "image": image("none"),
    "image-zstd": image("zstd"),
    "iscsi": lun(),
    "iscsi-thin-digest": lun(thin=True, header_digest=True),
    "iscsi-3-sessions": lun(sessions=3),
}

Check = Callable[[BlockStore], Awaitable[None]]


@pytest.fixture(params=OPENERS)
def run(request: pytest.FixtureRequest) -> Callable[[Check], None]:
    """Give a function that runs a check on a freshly opened store."""
    if request.param.startswith("iscsi"):
        request.applymarker("integration")
    opener = OPENERS[request.param]

    def runner(check: Check) -> None:
        async def main() -> None:
            async with opener() as store:
                await asyncio.wait_for(check(store), 60)

        asyncio.run(main())

    return runner


async def read(store: BlockStore, offset: int, length: int) -> bytes:
    data = bytearray(b"\xee" * length)
    await store.read_into(offset, buffers_of(data))
    return bytes(data)


def scattered(data: bytearray, sizes: list[int]) -> Buffers:
    """Cut *data* into parts of *sizes*, repeated."""
    view, parts, position, turn = memoryview(data), [], 0, 0
    while position < len(data):
        part = view[position : position + sizes[turn % len(sizes)]]
        parts.append(part)
        position += len(part)
        turn += 1
    return tuple(parts)


def test_geometry_is_complete_and_reachable(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        geometry = store.geometry
        assert geometry.size == SIZE
        assert geometry.block_size == 512
        assert geometry.identity
        assert store.name
        assert store.is_reachable

    run(check)


def test_fresh_store_reads_zeros(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        assert await read(store, 0, 64 * KiB) == bytes(64 * KiB)
        assert await read(store, SIZE - 512, 512) == bytes(512)

    run(check)


@pytest.mark.parametrize("length", [512, 4 * KiB, 300 * KiB, 3 * MiB + 512])
def test_written_bytes_are_read_back(run: Callable[[Check], None], length: int) -> None:
    async def check(store: BlockStore) -> None:
        data = random.Random(length).randbytes(length)
        epoch = await store.write(1024, buffers_of(data))
        assert epoch == 0
        assert await read(store, 1024, length) == data
        assert await read(store, 512, 512) == bytes(512)
        assert await read(store, 1024 + length, 512) == bytes(512)

    run(check)


@pytest.mark.parametrize("sizes", [[512], [1, 511], [4096, 512, 3584], [100_000, 7]])
def test_many_parts_move_like_one(run: Callable[[Check], None], sizes: list[int]) -> None:
    async def check(store: BlockStore) -> None:
        data = bytearray(random.Random(1).randbytes(768 * KiB))
        await store.write(4096, scattered(data, sizes))
        assert await read(store, 4096, len(data)) == data
        target = bytearray(len(data))
        await store.read_into(4096, scattered(target, sizes))
        assert target == data

    run(check)


def test_read_only_memory_can_be_written_from(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        await store.write(0, (memoryview(b"x" * 512),))
        assert await read(store, 0, 512) == b"x" * 512

    run(check)


def test_first_and_last_block_are_reachable(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        await store.write(0, buffers_of(b"a" * 512))
        await store.write(SIZE - 512, buffers_of(b"z" * 512))
        assert await read(store, 0, 1024) == b"a" * 512 + bytes(512)
        assert await read(store, SIZE - 1024, 1024) == bytes(512) + b"z" * 512

    run(check)


def test_zero_clears_exactly_the_extent(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        await store.write(0, buffers_of(b"q" * (3 * MiB)))
        await store.zero(Extent(512, 2 * MiB))
        assert await read(store, 0, 512) == b"q" * 512
        assert await read(store, 512, 2 * MiB) == bytes(2 * MiB)
        assert await read(store, 512 + 2 * MiB, MiB - 512) == b"q" * (MiB - 512)

    run(check)


def test_zero_whole_store(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        await store.write(SIZE - MiB, buffers_of(b"q" * MiB))
        await store.zero(Extent(0, SIZE))
        assert await read(store, SIZE - MiB, MiB) == bytes(MiB)

    run(check)


def test_flush_answers_no_lower_epoch_than_the_write(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        written = await store.write(0, buffers_of(b"f" * 4096))
        assert await store.flush() >= written
        assert await store.flush() == written  # nothing was lost in between

    run(check)


def test_extents_cover_exactly_and_zero_is_zero(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        await store.write(MiB, buffers_of(b"d" * MiB))
        await store.write(5 * MiB + 512, buffers_of(b"d" * 512))
        asked = Extent(512, 8 * MiB)
        parts = await store.extents(asked)
        assert sum(length for _, length in parts) == asked.length
        position = asked.offset
        for kind, length in parts:
            assert length > 0
            assert length % 512 == 0
            if kind is ExtentKind.ZERO:
                assert await read(store, position, length) == bytes(length)
            position += length

    run(check)


def test_read_now_gives_all_or_says_no(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        await store.write(8192, buffers_of(b"n" * 8192))
        target = bytearray(8192)
        if store.read_now(8192, scattered(target, [512])):
            assert target == b"n" * 8192

    run(check)


def test_200_calls_at_once_keep_their_bytes_apart(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        chooser = random.Random(7)
        model = bytearray(SIZE)
        for _ in range(4):
            offsets = chooser.sample(range(0, SIZE, 4096), 200)
            data = [chooser.randbytes(4096) for _ in offsets]
            writes = [
                store.write(offset, buffers_of(block))
                for offset, block in zip(offsets, data, strict=True)
            ]
            await asyncio.gather(*writes)
            for offset, block in zip(offsets, data, strict=True):
                model[offset : offset + 4096] = block
            wanted = chooser.choices(range(0, SIZE, 4096), k=200)
            targets = [bytearray(4096) for _ in wanted]
            reads = [
                store.read_into(offset, buffers_of(target))
                for offset, target in zip(wanted, targets, strict=True)
            ]
            await asyncio.gather(*reads)
            for offset, target in zip(wanted, targets, strict=True):
                assert target == model[offset : offset + 4096]

    run(check)


def test_cancelled_call_does_no_harm(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        await store.write(0, buffers_of(b"c" * MiB))
        abandoned = store.read_into(0, buffers_of(bytearray(MiB)))
        abandoned.cancel()
        assert await read(store, 0, 512) == b"c" * 512

    run(check)


def test_closed_store_fails_calls_with_source_error(run: Callable[[Check], None]) -> None:
    async def check(store: BlockStore) -> None:
        await store.close()
        await store.close()
        assert not store.is_reachable
        assert not store.read_now(0, buffers_of(bytearray(512)))
        calls: list[asyncio.Future[Any]] = [
            store.read_into(0, buffers_of(bytearray(512))),
            store.write(0, buffers_of(bytes(512))),
            store.zero(Extent(0, 512)),
            store.flush(),
        ]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, SourceError)
        assert await store.extents(Extent(0, 512)) == [(ExtentKind.DATA, 512)]

    run(check)
