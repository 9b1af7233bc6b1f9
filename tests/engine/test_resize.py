"""A volume grows after its backup and its disk, on real stores; and what keeps it from growing."""

from __future__ import annotations

import os

import pytest

from tcmu_restore.engine.command import CommandKind
from tcmu_restore.errors import (
    IdentityMismatchError,
    OutOfRangeError,
    PrimaryTooSmallError,
    SizeMismatchError,
    SourceUnreachableError,
    WrongStateError,
)
from tests.support.tgt import MISSING

from .rig import SIZE, Rig, do, read, run

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

GROWN = SIZE + (3 << 20) + 512


def grow_backup(rig: Rig, size: int = GROWN) -> None:
    """Give the backup's file more bytes; tgt sees them when it starts again."""
    rig.backup.kill()
    more = os.urandom(max(0, size - SIZE))
    with (rig.folder / "backup").open("r+b") as file:
        file.truncate(min(size, SIZE))
        file.seek(0, os.SEEK_END)
        file.write(more)
    rig.content = rig.content[:size] + more
    rig.backup.start()


def grow_primary(rig: Rig, size: int = GROWN) -> None:
    os.truncate(rig.primary, size)


def test_a_volume_grows_while_it_is_used(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await do(engine, CommandKind.WRITE, 4096, b"w" * 8192)
            with pytest.raises(OutOfRangeError):
                await read(engine, SIZE, 512)
            grow_backup(rig)
            grow_primary(rig)
            await engine.backup.wait_ready(20)  # grown, it is still the same backup
            assert await rig.registry.resize("v") == GROWN
            assert await rig.registry.resize("v") == GROWN  # again: nothing to do
            status = rig.registry.status("v")
            assert (status["size"], status["lio_size"]) == (GROWN, SIZE)
            assert await read(engine, SIZE - 512, 1 << 20) == rig.content[SIZE - 512 :][: 1 << 20]
            await do(engine, CommandKind.WRITE, GROWN - 512, b"e" * 512)
            await do(engine, CommandKind.FLUSH, 0, b"")
        content = bytearray(rig.content)
        content[4096:12288], content[-512:] = b"w" * 8192, b"e" * 512
        rig.content = bytes(content)
        # LIO still has the size before: the resize was interrupted, and the volume opens
        async with rig.opened() as engine:
            assert rig.registry.status("v")["lio_size"] == SIZE
            engine.lio_resized(GROWN)
            assert rig.registry.status("v")["lio_size"] == GROWN
            assert await read(engine, SIZE, 1 << 20) == rig.content[SIZE:][: 1 << 20]
        engine = await rig.registry.open_volume("v", GROWN, 512)
        assert await read(engine, 4096, 8192) == b"w" * 8192
        await rig.registry.close()
        for size in (SIZE + 512, GROWN + 512):
            with pytest.raises(SizeMismatchError):
                await rig.registry.open_volume("v", size, 512)
        await rig.registry.close()

    run(go)


def test_what_keeps_it_from_growing(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            assert await rig.registry.resize("v") == SIZE  # nothing has grown: nothing to do
            grow_backup(rig)
            with pytest.raises(PrimaryTooSmallError, match=str(GROWN)):
                await rig.registry.resize("v")
            grow_primary(rig)
            rig.backup.kill()
            with pytest.raises(SourceUnreachableError):
                await rig.registry.resize("v")
            rig.backup.identity = "another"
            rig.backup.start()
            with pytest.raises(IdentityMismatchError):
                await rig.registry.resize("v")
            rig.backup.identity = "backup"
            rig.backup.kill()
            grow_backup(rig, SIZE - 4096)
            with pytest.raises(WrongStateError, match="never shrinks"):
                await rig.registry.resize("v")
            assert engine.size == SIZE
            assert rig.registry.status("v")["lio_size"] == SIZE

    run(go)


def test_a_snapshot_of_the_old_size_is_detached_first(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened():
            await rig.registry.attach_snapshot("v", rig.snapshot.url)
            grow_backup(rig)
            grow_primary(rig)
            with pytest.raises(WrongStateError, match="detach it first"):
                await rig.registry.resize("v")
            await rig.registry.detach_snapshot("v")
            assert await rig.registry.resize("v") == GROWN

    run(go)


def test_a_backup_that_has_grown_is_the_same_backup(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        grow_backup(rig)
        async with rig.opened() as engine:  # waits for the login
            assert await read(engine, 0, 4096) == rig.content[:4096]
            assert engine.size == SIZE
        grow_backup(rig, SIZE - 512)
        engine = await rig.registry.open_volume("v", SIZE, 512)
        with pytest.raises(SizeMismatchError):
            await engine.backup.wait_ready(20)
        await rig.registry.close()

    run(go)
