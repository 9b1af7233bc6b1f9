"""Disks that fail under a running volume, are replaced and given back; policies of the mirror."""

from __future__ import annotations

import asyncio
from asyncio import Future
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.core.buffer import Buffers
from tcmu_restore.engine.command import CommandKind
from tcmu_restore.engine.volume_engine import VolumeEngine
from tcmu_restore.errors import (
    LostRegionError,
    OutOfRangeError,
    PrimaryTooSmallError,
    SourceReadError,
    SourceWriteError,
    StateWriteError,
    WrongStateError,
)
from tcmu_restore.sources.base import BlockStore
from tests.support.tgt import MISSING

from .rig import SIZE, Rig, do, merged, read, run

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

REGION = 4096


class FailingDisk:
    """Stands in front of the primary; reads of *bad* offsets fail, or all writes do."""

    def __init__(self, engine: VolumeEngine) -> None:
        disk = engine.performer.primary
        assert disk is not None
        self.disk: BlockStore = disk
        self.bad: set[int] = set()
        self.fails_writes = False
        # it passes everything else on, which no annotation can say
        engine.performer.primary = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def read_now(self, offset: int, buffers: Buffers) -> bool:
        del offset, buffers
        return False

    def read_into(self, offset: int, buffers: Buffers) -> Future[None]:
        length = sum(part.nbytes for part in buffers)
        if any(offset <= bad < offset + length for bad in self.bad):
            return failed(SourceReadError("disk", "planted"))
        return self.disk.read_into(offset, buffers)

    def write(self, offset: int, buffers: Buffers) -> Future[int]:
        if self.fails_writes:
            return failed(SourceWriteError("disk", "planted"))
        self.bad = {bad for bad in self.bad if not offset <= bad < offset + REGION}
        return self.disk.write(offset, buffers)


def failed(error: Exception) -> Future[Any]:
    future: Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


async def fully_restored(rig: Rig, engine: VolumeEngine) -> None:
    await rig.registry.attach_snapshot("v", rig.snapshot.url)
    await rig.registry.merge_start("v")
    await merged(engine)
    await rig.registry.detach_snapshot("v")


async def resynced(engine: VolumeEngine) -> None:
    async with asyncio.timeout(20):
        while engine.volume.state.overwrite_map.sets.stale:  # noqa: ASYNC110 - several events end it
            await asyncio.sleep(0.01)


def other_disk(rig: Rig, name: str = "other") -> Path:
    path = rig.folder / name
    path.write_bytes(b"\x5a" * (SIZE + 8192))
    return path


def test_bad_sector_is_repaired(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await fully_restored(rig, engine)
            disk = FailingDisk(engine)
            disk.bad = {5 * REGION + 512}
            assert await read(engine, 4 * REGION, 4 * REGION) == rig.content[16384:32768]
            assert rig.registry.status("v")["counters"]["regions_repaired"] == 1
            await do(engine, CommandKind.FLUSH, 0, b"")
            assert not disk.bad  # rewritten
            assert rig.registry.status("v")["state"] == "in_sync"

    run(go)


def test_failed_disk_is_replaced_while_hosts_go_on(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        other = other_disk(rig)
        async with rig.opened() as engine:
            await fully_restored(rig, engine)
            FailingDisk(engine).fails_writes = True
            await do(engine, CommandKind.WRITE, 0, b"a" * REGION)
            status = rig.registry.status("v")
            assert status["state"] == "diskless"
            assert status["conditions"][0]["name"] == "diskless"
            assert await read(engine, 0, 2 * REGION) == b"a" * REGION + rig.content[4096:8192]
            await rig.registry.replace_primary("v", str(other))
            assert rig.registry.status("v")["state"] == "restoring"
            await do(engine, CommandKind.WRITE, 2 * REGION + 512, b"b" * 512)
            await rig.registry.prepare_snapshot("v")
            assert rig.registry.status("v")["regions"]["in_doubt"] == 0
        rig.snapshot.kill()
        (rig.folder / "snapshot").write_bytes((rig.folder / "backup").read_bytes())
        rig.snapshot.start()
        async with rig.opened() as engine:  # the definition names the new disk
            await fully_restored(rig, engine)
            assert rig.registry.status("v")["state"] == "in_sync"
        expected = (rig.folder / "backup").read_bytes()
        assert other.read_bytes()[:SIZE] == expected
        assert expected[:REGION] == b"a" * REGION
        assert expected[2 * REGION + 512 : 2 * REGION + 1024] == b"b" * 512

    run(go)


def test_a_failed_disk_is_not_used_again_after_a_restart(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await fully_restored(rig, engine)
            await do(engine, CommandKind.FLUSH, 0, b"")  # what is not flushed is not kept
            FailingDisk(engine).fails_writes = True
            await do(engine, CommandKind.WRITE, 0, b"a" * REGION)
        async with rig.opened() as engine:
            assert rig.registry.status("v")["state"] == "diskless"
            assert await read(engine, 0, REGION) == b"a" * REGION
            await rig.registry.replace_primary("v", str(rig.primary))  # given back
            regions = rig.registry.status("v")["regions"]
            assert regions["lost"] == 1  # what was written since; the rest was kept
            assert await read(engine, 0, 2 * REGION) == b"a" * REGION + rig.content[4096:8192]

    run(go)


def test_outdated_is_never_served_until_it_is_accepted_or_the_disk_given_back(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        rig.options("hold_seconds = 0.1\nlost_read_deadline_seconds = 0.1\n")
        async with rig.opened() as engine:
            await fully_restored(rig, engine)
            await do(engine, CommandKind.FLUSH, 0, b"")
            rig.backup.kill()
            await do(engine, CommandKind.WRITE, 0, b"n" * REGION)
            await do(engine, CommandKind.WRITE, 8 * REGION, b"n" * REGION)
            await do(engine, CommandKind.FLUSH, 0, b"")
            with pytest.raises(WrongStateError, match="2 regions are not on the backup"):
                await rig.registry.replace_primary("v", str(other_disk(rig)))
            engine.volume.state.fail_primary(SourceReadError("disk", "pulled"))
            engine.guard.check()
            assert rig.registry.status("v")["state"] == "failed"
            rig.backup.start()
            await engine.backup.wait_ready(10)
            status = rig.registry.status("v")
            assert status["state"] == "outdated"
            assert status["outdated_extents"] == [(0, REGION), (8 * REGION, REGION)]
            with pytest.raises(LostRegionError):
                await read(engine, 0, REGION)
            assert await read(engine, REGION, REGION) == rig.content[4096:8192]
            accepted = await rig.registry.accept_outdated("v", offset=0, length=REGION)
            assert accepted == 1
            assert await read(engine, 0, REGION) == rig.content[:REGION]  # old, and accepted
            await rig.registry.replace_primary("v", str(rig.primary))
            assert await read(engine, 8 * REGION, REGION) == b"n" * REGION  # the disk had it
            assert await read(engine, 0, REGION) == rig.content[:REGION]
            await resynced(engine)
        assert (rig.folder / "backup").read_bytes()[8 * REGION : 9 * REGION] == b"n" * REGION

    run(go)


def test_declare_lost(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await fully_restored(rig, engine)
            await do(engine, CommandKind.WRITE, 0, b"n" * REGION)
            assert await rig.registry.declare_lost("v", offset=0, length=REGION, force=False) == 1
            rig.primary.write_bytes(b"\xee" * (SIZE + 4096))  # it really is gone
            assert rig.registry.status("v")["regions"]["lost"] == 1
            assert await read(engine, 0, REGION) == b"n" * REGION
            total = SIZE // REGION
            lost = await rig.registry.declare_lost("v", offset=0, length=None, force=False)
            assert lost >= total - 1
            assert await read(engine, REGION, REGION) == rig.content[4096:8192]
            with pytest.raises(OutOfRangeError):
                await rig.registry.declare_lost("v", offset=SIZE, length=None, force=False)

    run(go)


def test_declaring_stale_regions_lost_has_to_be_forced(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await fully_restored(rig, engine)
            rig.backup.kill()
            await do(engine, CommandKind.WRITE, 0, b"n" * REGION)
            with pytest.raises(WrongStateError, match="would be given up"):
                await rig.registry.declare_lost("v", offset=0, length=None, force=False)
            assert await read(engine, 0, REGION) == b"n" * REGION

    run(go)


def test_replacement_that_does_not_fit_changes_nothing(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        small = rig.folder / "small"
        small.write_bytes(bytes(SIZE - 4096))
        async with rig.opened() as engine:
            await fully_restored(rig, engine)
            with pytest.raises(PrimaryTooSmallError):
                await rig.registry.replace_primary("v", str(small))
            assert rig.registry.status("v")["state"] == "in_sync"

    run(go)


def test_strict_mirror_refuses_writes_without_a_backup(rig: Rig) -> None:
    async def go() -> None:
        await rig.registry.create_volume(
            "v", primary=str(rig.primary), backup=rig.backup.url, mirror="strict"
        )
        rig.options("hold_seconds = 0.2\n")
        async with rig.opened() as engine:
            await do(engine, CommandKind.WRITE, 0, b"s" * REGION)
            rig.backup.kill()
            with pytest.raises(SourceWriteError, match="strict"):
                await do(engine, CommandKind.WRITE, 0, b"t" * REGION)

    run(go)


def test_async_mirror_answers_first_and_sends_later(rig: Rig) -> None:
    async def go() -> None:
        await rig.registry.create_volume(
            "v", primary=str(rig.primary), backup=rig.backup.url, mirror="async"
        )
        async with rig.opened() as engine:
            engine.resync.pause()
            await do(engine, CommandKind.WRITE, 0, b"s" * REGION)
            status = rig.registry.status("v")
            assert status["regions"]["stale"] == 1
            assert status["resync"]["state"] == "paused"
            engine.resync.resume()
            await resynced(engine)
            await do(engine, CommandKind.FLUSH, 0, b"")
        assert (rig.folder / "backup").read_bytes()[:REGION] == b"s" * REGION

    run(go)


def test_full_state_file_system_holds_writes_and_loses_nothing(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await do(engine, CommandKind.WRITE, 0, b"s" * REGION)
            commit = engine.db.commit_intent
            engine.db.commit_intent = lambda *_: failed(StateWriteError("v.db", "full"))  # type: ignore[method-assign]
            write = asyncio.create_task(do(engine, CommandKind.WRITE, SIZE - REGION, b"x" * REGION))
            await asyncio.sleep(0.05)
            assert not write.done()  # held: it was not armed, so nothing was sent
            await do(engine, CommandKind.WRITE, 0, b"t" * REGION)  # an armed zone goes on
            engine.db.commit_intent = commit  # type: ignore[method-assign]
            await write
            assert await read(engine, SIZE - REGION, REGION) == b"x" * REGION

    run(go)


@pytest.mark.parametrize("repair", ["primary", "backup"])
def test_verify_finds_and_repairs_what_differs(rig: Rig, repair: str) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await fully_restored(rig, engine)
            await do(engine, CommandKind.FLUSH, 0, b"")
        with rig.primary.open("r+b") as disk:
            disk.seek(700 * REGION + 3)
            disk.write(b"?")
        async with rig.opened() as engine:
            await rig.registry.verify("v", "start", repair=repair)
            async with asyncio.timeout(20):
                while rig.registry.status("v")["verify"]["state"] != "done":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            status = rig.registry.status("v")["verify"]
            assert status["differing_extents"] == [(700 * REGION, REGION)]
            assert status["bytes_done"] == status["bytes_total"]
            await resynced(engine)
            right = rig.content[700 * REGION : 701 * REGION]
            wrong = right[:3] + b"?" + right[4:]
            expected = wrong if repair == "primary" else right
            assert await read(engine, 700 * REGION, REGION) == expected
            await do(engine, CommandKind.FLUSH, 0, b"")
        assert (rig.folder / "backup").read_bytes()[700 * REGION : 701 * REGION] == expected

    run(go)


def test_verify_goes_on_after_a_restart(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await fully_restored(rig, engine)
            await rig.registry.verify("v", "start")
            await rig.registry.verify("v", "pause")
            with pytest.raises(WrongStateError, match="paused"):
                await rig.registry.verify("v", "start")
        async with rig.opened():
            assert rig.registry.status("v")["verify"]["state"] == "paused"
            await rig.registry.verify("v", "resume")
            async with asyncio.timeout(20):
                while rig.registry.status("v")["verify"]["state"] != "done":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert rig.registry.status("v")["verify"]["regions_differing"] == 0

    run(go)
