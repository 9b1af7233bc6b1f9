"""What becomes of a restored volume: protected with another policy, or put aside."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tcmu_restore.core.mirroring import MirrorPolicy
from tcmu_restore.engine.command import CommandKind
from tcmu_restore.engine.definition import load_definition, save_protection
from tcmu_restore.engine.volume_engine import VolumeEngine
from tcmu_restore.errors import (
    BadDefinitionError,
    SourceUnreachableError,
    SourceWriteError,
    UnknownVolumeError,
    VolumeInUseError,
    WrongStateError,
)
from tests.support.tgt import MISSING

from .rig import SIZE, Rig, do, read, run

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


def files(rig: Rig) -> set[str]:
    return {path.name for folder in ("etc", "var") for path in (rig.folder / folder).iterdir()}


async def restore(rig: Rig) -> None:
    await rig.create()
    async with rig.opened() as engine:
        await read(engine, 0, SIZE)
        await do(engine, CommandKind.FLUSH, 0, b"")


async def in_sync(engine: VolumeEngine) -> None:
    """Wait, without sleeping, until nothing is stale."""
    ended = asyncio.Event()
    report = engine.driver._on_ended

    def watch() -> None:
        report()
        if not engine.volume.state.overwrite_map.sets.stale:
            ended.set()

    engine.driver._on_ended = watch
    if engine.volume.state.overwrite_map.sets.stale:
        await asyncio.wait_for(ended.wait(), 30)


def test_a_restored_volume_is_put_aside_and_cannot_be_opened(rig: Rig) -> None:
    async def go() -> None:
        await restore(rig)
        assert rig.registry.status("v")["restored"]
        before = files(rig)
        await rig.registry.retire("v", forget=False)
        assert files(rig) == {f"{name}.handed-over" for name in before}
        assert rig.registry.list_volumes() == []
        with pytest.raises(UnknownVolumeError):
            await rig.registry.open_volume("v", SIZE, 512)
        await rig.registry.close()
        await rig.registry.retire("v", forget=False)  # again, after an interruption
        await rig.registry.retire("v", forget=True)
        assert files(rig) == set()

    run(go)


def test_taken_back_all_of_it_is_sent_to_the_backup(rig: Rig) -> None:
    async def go() -> None:
        await restore(rig)
        await rig.registry.retire("v", forget=False)
        disk = rig.primary.read_bytes()
        rig.primary.write_bytes(disk[:4096] + b"plain" * 1000 + disk[9096:])  # past the volume
        await rig.registry.take_back("v")
        await rig.registry.take_back("v")  # a second time does nothing
        assert {"v.toml", "v.db"} <= files(rig)
        assert not any(name.endswith("over") for name in files(rig))
        async with rig.opened() as engine:
            await in_sync(engine)
            await do(engine, CommandKind.FLUSH, 0, b"")
            assert await read(engine, 4096, 5000 // 512 * 512) == (b"plain" * 1000)[:4608]
        assert (rig.folder / "backup").read_bytes() == rig.primary.read_bytes()[:SIZE]
        with pytest.raises(UnknownVolumeError):
            await rig.registry.take_back("w")

    run(go)


def test_interrupted_between_two_files_it_is_not_opened_and_can_be_finished(rig: Rig) -> None:
    async def go() -> None:
        await restore(rig)
        definition = rig.folder / "etc" / "v.toml"
        definition.replace(definition.with_name("v.toml.handed-over"))
        with pytest.raises(UnknownVolumeError):
            await rig.registry.open_volume("v", SIZE, 512)
        await rig.registry.close()
        await rig.registry.retire("v", forget=False)
        assert "v.db.handed-over" in files(rig)

    run(go)


def test_only_a_restored_volume_that_nobody_uses(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        with pytest.raises(WrongStateError, match="does not hold everything"):
            await rig.registry.retire("v", forget=False)
        assert not rig.registry.status("v")["restored"]
        async with rig.opened() as engine:
            with pytest.raises(VolumeInUseError):
                await rig.registry.retire("v", forget=True)
            await read(engine, 0, SIZE)
        async with rig.opened() as engine:  # its disk fails: nothing is there any more
            engine.volume.state.fail_primary(SourceUnreachableError("disk", "pulled out"))
            await do(engine, CommandKind.FLUSH, 0, b"")
        with pytest.raises(WrongStateError, match="does not hold everything"):
            await rig.registry.retire("v", forget=False)
        assert {"v.toml", "v.db"} <= files(rig)

    run(go)


def test_protect_changes_the_running_policy_and_the_definition(rig: Rig) -> None:
    async def go() -> None:
        await restore(rig)
        async with rig.opened() as engine:
            status = rig.registry.status("v")
            assert status["state"] == "in_sync"
            assert "tcmu-restore handover v" in status["advice"]
            await rig.registry.protect("v", mirror="strict")
            status = rig.registry.status("v")
            assert (status["mirror"], status["protected"]) == ("strict", True)
            assert "handover" not in status["advice"]
            rig.backup.kill()
            with pytest.raises(SourceWriteError, match="strict"):
                await do(engine, CommandKind.WRITE, 0, b"w" * 4096)
            rig.backup.start()
            await engine.backup.wait_ready(20)
            await rig.registry.protect("v", mirror="async")
            await do(engine, CommandKind.WRITE, 0, b"a" * 4096)
            assert engine.volume.state.policy is MirrorPolicy.ASYNC
        definition = load_definition(rig.folder / "etc", "v")
        assert (definition.mirror, definition.protected) == (MirrorPolicy.ASYNC, True)
        async with rig.opened() as engine:
            assert engine.volume.state.policy is MirrorPolicy.ASYNC

    run(go)


def test_save_protection_leaves_the_rest_of_the_definition(tmp_path: Path) -> None:
    path = tmp_path / "v.toml"
    rest = '# mine\nprimary = "/dev/x"\n\n[backup]\nurl = "iscsi://b/iqn.a:b/0"\n'
    path.write_text('mirror = "strict"\n' + rest)
    path.chmod(0o600)
    for policy in (MirrorPolicy.ASYNC, MirrorPolicy.SYNC):
        save_protection(tmp_path, "v", policy)
        assert path.read_text() == f'mirror = "{policy.value}"\nprotected = true\n' + rest
        assert load_definition(tmp_path, "v").mirror is policy
    path.write_text("[")
    with pytest.raises(BadDefinitionError):
        save_protection(tmp_path, "v", MirrorPolicy.SYNC)
    assert path.read_text() == "["
