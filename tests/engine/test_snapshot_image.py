"""A snapshot that was carried here is merged; what of it is damaged comes from the backup."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.engine.command import CommandKind
from tcmu_restore.errors import (
    BadImageError,
    IdentityMismatchError,
    RestoreError,
    SizeMismatchError,
    WrongStateError,
)
from tcmu_restore.sources.file import FileStore
from tests.support.tgt import MISSING
from tests.transfer.images import EXTENT, export_source, flip

from .rig import SIZE, Rig, do, merged, read, run

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


async def carry(rig: Rig, name: str = "carried", **change: Any) -> Path:
    """Export the snapshot's file for the volume of *rig*."""
    identity = rig.registry.status("v")["backup"]["identity"]
    assert identity
    source = FileStore.open(rig.folder / "snapshot", read_only=True)
    directory = rig.folder / name
    await export_source(source, directory, **({"backup": identity} | change))
    await source.close()
    return directory


async def merge(rig: Rig, engine: Any, directory: Path) -> dict[str, Any]:
    await rig.registry.attach_snapshot("v", str(directory))
    await rig.registry.merge_start("v")
    await merged(engine)
    await do(engine, CommandKind.FLUSH, 0, b"")
    status: dict[str, Any] = rig.registry.status("v")
    return status


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_carried_snapshot_is_merged_without_the_live_link(rig: Rig, compression: str) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            directory = await carry(rig, compression=compression, extent=1 << 20)
            status = await merge(rig, engine, directory)
            assert status["state"] == "in_sync"
            assert status["merge"]["bad_extents"] == 0
            assert status["merge"]["report"] == ""
            assert engine.backup.statistics.read_bytes == 0
            await rig.registry.detach_snapshot("v")
            shutil.rmtree(directory)
        assert rig.primary.read_bytes()[:SIZE] == rig.content

    run(go)


def test_holes_become_zeros_without_a_read(rig: Rig) -> None:
    async def go() -> None:
        for name in ("backup", "snapshot"):
            (rig.folder / name).write_bytes(rig.content[: SIZE // 2] + bytes(SIZE // 2))
        rig.primary.write_bytes(b"\xee" * (SIZE + 4096))
        await rig.create()
        async with rig.opened() as engine:
            await merge(rig, engine, await carry(rig))
            counters = engine.volume.state.counters
            assert counters.bytes_merged == SIZE // 2
            assert counters.regions_zeroed * 4096 == SIZE // 2
        expected = rig.content[: SIZE // 2] + bytes(SIZE // 2)
        assert rig.primary.read_bytes()[:SIZE] == expected

    run(go)


@pytest.mark.parametrize("step", [4096, 1 << 20])
def test_damaged_extents_and_only_they_come_from_the_backup(
    rig: Rig, step: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        await rig.create()
        rig.options(f"merge_step = {step}\n")
        async with rig.opened() as engine:
            await do(engine, CommandKind.WRITE, 4096, b"n" * 4096)  # steps straddle extents
            directory = await carry(rig)
            for extent in (3, 4, 77):
                flip(directory / "data-000000", extent * EXTENT + 5)
            status = await merge(rig, engine, directory)
            assert status["state"] == "in_sync"
            assert status["merge"]["bad_extents"] == 3
            report = "3 extents of the snapshot were bad and came from the backup"
            assert status["merge"]["report"] == report
            assert engine.backup.statistics.read_bytes == 3 * EXTENT
            assert caplog.text.count("it comes from the backup") == 3
        expected = rig.content[:4096] + b"n" * 4096 + rig.content[8192:]
        assert rig.primary.read_bytes()[:SIZE] == expected

    run(go)


def test_image_that_is_cut_off_is_completed_from_the_backup(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            directory = await carry(rig)
            os.truncate(directory / "data-000000", SIZE - 10 * EXTENT - 1)
            status = await merge(rig, engine, directory)
            assert status["merge"]["bad_extents"] == 11
            assert engine.backup.statistics.read_bytes == 11 * EXTENT
        assert rig.primary.read_bytes()[:SIZE] == rig.content

    run(go)


def test_damaged_extent_is_not_served_while_the_backup_is_away(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        rig.options("hold_seconds = 0.2\nlost_read_deadline_seconds = 0.5\n")
        async with rig.opened() as engine:
            directory = await carry(rig)
            flip(directory / "data-000000", 5)
            await rig.registry.attach_snapshot("v", str(directory))
            rig.backup.kill()
            assert await read(engine, EXTENT, 4096) == rig.content[EXTENT : EXTENT + 4096]
            with pytest.raises(RestoreError):
                await read(engine, EXTENT - 4096, 4096)

    run(go)


def test_snapshot_of_another_volume_is_refused_and_changes_nothing(rig: Rig) -> None:
    async def refused(path: Path, error: type[RestoreError], match: str) -> None:
        before = rig.registry.status("v")
        with pytest.raises(error, match=match) as caught:
            await rig.registry.attach_snapshot("v", str(path))
        assert "\n" not in str(caught.value)
        assert str(caught.value).count("Nothing was changed") + str(caught.value).count(
            "nothing was changed"
        )
        after = rig.registry.status("v")
        assert (after["snapshot"], after["regions"]) == (None, before["regions"])

    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            foreign = await carry(rig, "foreign", backup="naa.5000c500/serial.other")
            await refused(foreign, IdentityMismatchError, "exported from is naa.5000c500")
            os.truncate(rig.folder / "snapshot", SIZE // 2)
            await refused(await carry(rig, "short"), SizeMismatchError, "4194304 bytes")
            damaged = await carry(rig, "damaged")
            flip(damaged / "extents.idx", 9)
            await refused(damaged, BadImageError, "extents.idx is damaged")
            (damaged / "manifest.json").write_bytes(b"[" * 60_000)
            await refused(damaged, BadImageError, "manifest.json: it is not the JSON")
            assert engine.facts["snapshot"] is None

    run(go)


def test_restart_goes_on_with_the_same_image_and_its_count(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        rig.options(f"merge_step = {EXTENT}\nmerge_depth = 1\n")
        async with rig.opened() as engine:
            directory = await carry(rig)
            flip(directory / "data-000000", 5)
            flip(directory / "data-000000", SIZE - 5)
            await rig.registry.attach_snapshot("v", str(directory))
            await rig.registry.merge_start("v")
            while engine.volume.state.counters.regions_merged < 300:
                await read(engine, 2 * EXTENT, 512)
        assert engine.merge.bad_extents == 1
        async with rig.opened() as engine:
            assert engine.snapshot is not None
            await merged(engine)
            assert engine.merge.bad_extents == 2
            with pytest.raises(WrongStateError):
                await rig.registry.attach_snapshot("v", str(directory))
        assert rig.primary.read_bytes()[:SIZE] == rig.content

    run(go)


def test_other_image_at_the_same_place_after_a_restart_is_not_used(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened():
            directory = await carry(rig)
            await rig.registry.attach_snapshot("v", str(directory))
        async with rig.opened() as engine:
            assert engine.snapshot is not None
        shutil.rmtree(directory)
        async with rig.opened() as engine:
            assert engine.snapshot is not None
            assert not engine.snapshot.is_reachable  # MRG-2
            (rig.folder / "snapshot").write_bytes(bytes(EXTENT) + rig.content[EXTENT:])
            await carry(rig)
        async with rig.opened() as engine:
            assert engine.snapshot is not None
            assert not engine.snapshot.is_reachable  # MRG-2

    run(go)
