"""Whole volumes on a real disk file and a real iSCSI target, without a kernel target."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Any

import pytest

from tcmu_restore.engine import creation
from tcmu_restore.engine.command import CommandKind
from tcmu_restore.engine.definition import PeerDefinition, load_definition
from tcmu_restore.engine.link_settings import parse_link
from tcmu_restore.errors import (
    BadSettingError,
    BlockSizeMismatchError,
    FencedError,
    IdentityMismatchError,
    LostRegionError,
    OutOfRangeError,
    PrimaryTooSmallError,
    RestoreError,
    SizeMismatchError,
    SnapshotIsBackupError,
    SourceLoginError,
    SourceUnreachableError,
    UnfinishedRestoreError,
    UnknownVolumeError,
    VolumeExistsError,
    VolumeInUseError,
    WrongStateError,
)
from tcmu_restore.remote.backup_host import HostSettings, SnapshotRequest
from tcmu_restore.remote.record import (
    RestoreRecord,
    Step,
    record_path,
    remove_record,
    save_record,
)
from tests.support.tgt import MISSING, TgtTarget

from .rig import SIZE, Rig, do, merged, read, run

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


def test_restore_from_loss_to_in_sync(rig: Rig) -> None:
    async def go() -> None:
        assert await rig.create() == SIZE
        async with rig.opened() as engine:
            assert await read(engine, 1000 * 512, 9000) == rig.content[512000:521000]
            await do(engine, CommandKind.WRITE, 3 * 4096 + 512, b"n" * 10240)
            await rig.registry.attach_snapshot("v", rig.snapshot.url)
            await rig.registry.merge_start("v")
            await merged(engine)
            await do(engine, CommandKind.FLUSH, 0, b"")
            assert rig.registry.status("v")["state"] == "in_sync"
            counters = engine.volume.state.counters
            assert counters.regions_merged * 4096 == counters.bytes_merged > SIZE // 2
            await rig.registry.detach_snapshot("v")
        expected = bytearray(rig.content)
        expected[3 * 4096 + 512 : 3 * 4096 + 512 + 10240] = b"n" * 10240
        assert rig.primary.read_bytes()[:SIZE] == expected
        assert (rig.folder / "backup").read_bytes() == expected

    run(go)


def test_restart_in_mid_merge_goes_on_and_copies_nothing_twice(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        rig.options("merge_step = 65536\nmerge_depth = 1\n")
        async with rig.opened() as engine:
            slow = {"rate_max": SIZE // 2}  # the merge must not end before the flush
            await rig.registry.attach_snapshot("v", rig.snapshot.url, link=slow)
            await rig.registry.merge_start("v")
            while engine.volume.state.counters.regions_merged < 300:
                await asyncio.wait_for(_next_turn(), 10)
            await do(engine, CommandKind.FLUSH, 0, b"")
        before = engine.volume.state.counters.bytes_merged
        assert before < SIZE
        async with rig.opened() as engine:
            assert engine.merge.state.value == "running"
            await merged(engine)
            assert engine.volume.state.counters.bytes_merged == SIZE
        assert rig.primary.read_bytes()[:SIZE] == rig.content

    run(go)


async def _next_turn() -> None:
    await asyncio.sleep(0)


def test_backup_away_at_start(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            assert await read(engine, 0, 4096) == rig.content[:4096]
        rig.options("hold_seconds = 0.2\nlost_read_deadline_seconds = 1.0\n")
        rig.backup.kill()
        async with rig.opened(reachable=False) as engine:
            assert await read(engine, 0, 4096) == rig.content[:4096]
            with pytest.raises(SourceUnreachableError):  # BUSY
                await read(engine, 8192, 4096)
            while True:
                try:
                    await read(engine, 8192, 4096)
                except SourceUnreachableError:
                    continue
                except LostRegionError:  # RD-1: an error, never zeros
                    break
            rig.backup.start()
            await engine.backup.wait_ready(20)
            assert await read(engine, 8192, 4096) == rig.content[8192:12288]

    run(go)


def test_backup_lost_in_use_degrades_and_resyncs(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            rig.backup.kill()
            await do(engine, CommandKind.WRITE, 0, b"d" * 8192)
            assert rig.registry.status("v")["state"] == "degraded"
            assert rig.registry.status("v")["regions"]["stale"] == 2
            await do(engine, CommandKind.FLUSH, 0, b"")
        rig.backup.start()
        async with rig.opened() as engine:
            while engine.volume.state.overwrite_map.sets.stale:
                await asyncio.wait_for(_next_turn(), 10)
            await do(engine, CommandKind.FLUSH, 0, b"")
        assert (rig.folder / "backup").read_bytes()[:8192] == b"d" * 8192

    run(go)


def test_a_mistake_of_ours_fences_the_volume(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise AssertionError("planted")

    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            assert await read(engine, 0, 4096) == rig.content[:4096]
            with monkeypatch.context() as patch:
                patch.setattr(engine.volume, "read", broken)
                with pytest.raises(FencedError, match="planted"):
                    await read(engine, 8192, 4096)
            with pytest.raises(FencedError):  # also of current regions
                await read(engine, 0, 4096)
            with pytest.raises(FencedError):
                await do(engine, CommandKind.WRITE, 0, b"x" * 4096)
            assert rig.registry.status("v")["state"] == "fenced"
        assert (rig.folder / "backup").read_bytes() == rig.content

    run(go)


def test_another_disk_at_the_primarys_path_is_not_touched(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        other = rig.folder / "other"
        other.write_bytes(b"precious" * (SIZE // 8))
        os.replace(other, rig.primary)
        async with rig.opened() as engine:
            assert rig.registry.status("v")["state"] == "diskless"
            assert await read(engine, 0, 4096) == rig.content[:4096]
            await do(engine, CommandKind.WRITE, 0, b"r" * 512, fua=True)
            assert (await read(engine, 0, 512)) == b"r" * 512
        assert rig.primary.read_bytes() == b"precious" * (SIZE // 8)
        assert (rig.folder / "backup").read_bytes()[:512] == b"r" * 512

    run(go)


def nothing_changed(rig: Rig) -> bool:
    return not any((rig.folder / name).exists() for name in ("etc/v.toml", "var/v.db"))


BAD_LINKS: list[dict[str, Any]] = [
    {"interface": "a/b"},
    {"sessions": 0},
    {"source_address": "backup.example.org"},
    {"portals": ["h"] * 9},
    {"link_up": ["/bin/true"], "link_down": ["/bin/true"]},
]


def test_bad_input_to_create_changes_nothing(rig: Rig) -> None:
    async def refused(error: type[RestoreError], **change: Any) -> None:
        settings = {"primary": str(rig.primary), "backup": rig.backup.url} | change
        with pytest.raises(error) as caught:
            await rig.registry.create_volume("v", **settings)
        assert "\n" not in str(caught.value)
        assert nothing_changed(rig)

    async def go() -> None:
        small = rig.folder / "small"
        small.write_bytes(bytes(SIZE - 512))
        await refused(PrimaryTooSmallError, primary=str(small))
        await refused(RestoreError, primary=str(rig.folder / "none"))
        await refused(RestoreError, backup=rig.backup.url.removesuffix("/1"))
        await refused(SourceLoginError, backup=rig.backup.url.replace("disk", "no-such-disk"))
        for link in BAD_LINKS:
            await refused(BadSettingError, link=link)
        with pytest.raises(UnknownVolumeError):
            rig.registry.status("v")
        await rig.create()
        with pytest.raises(VolumeExistsError):
            await rig.create()

    run(go)


def test_volume_is_created_over_its_link_and_keeps_it(rig: Rig) -> None:
    """The URL's portal is dead: only the link's leads to the backup."""
    live = f"127.0.0.1:{rig.backup.port}"
    link = {
        "portals": ["127.0.0.3", live],
        "interface": "lo",
        "source_address": "127.0.0.77",
        "sessions": 2,
        "rate_max": 1 << 20,
    }

    async def go() -> None:
        url = rig.backup.url.replace(live, "127.0.0.2:1")
        settings = {"primary": str(rig.primary), "backup": url, "mirror": "async"}
        assert await rig.registry.create_volume("v", **settings, link=link) == SIZE
        definition = load_definition(rig.folder / "etc", "v")
        assert definition.backup == PeerDefinition(url, None, parse_link(link, bulk=False))
        async with rig.opened() as engine:
            assert engine.definition == definition
            assert await read(engine, 0, 4096) == rig.content[:4096]

    run(go)


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"interface": "nosuch0"}, "over the interface nosuch0: No such device"),
        ({"source_address": "192.0.2.99"}, "from the address 192.0.2.99: Cannot assign"),
    ],
)
def test_backup_that_its_link_does_not_lead_to_makes_no_volume(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, link: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(creation, "CONNECT_SECONDS", 0.5)

    async def go() -> None:
        with pytest.raises(SourceUnreachableError, match=said) as caught:
            await rig.registry.create_volume(
                "v", primary=str(rig.primary), backup=rig.backup.url, link=link
            )
        assert "\n" not in str(caught.value)
        assert nothing_changed(rig)

    run(go)


def test_bad_input_to_an_open_volume_changes_nothing(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        with pytest.raises(SizeMismatchError):
            await rig.registry.open_volume("v", SIZE - 512, 512)
        with pytest.raises(BlockSizeMismatchError):
            await rig.registry.open_volume("v", SIZE, 4096)
        async with rig.opened() as engine:
            with pytest.raises(SnapshotIsBackupError):
                await rig.registry.attach_snapshot("v", rig.backup.url)
            short = rig.folder / "short"
            short.write_bytes(bytes(4096))
            with pytest.raises(SizeMismatchError):
                await rig.registry.attach_snapshot("v", str(short))
            with pytest.raises(WrongStateError):
                await rig.registry.merge_start("v")
            with pytest.raises(WrongStateError):
                await rig.registry.detach_snapshot("v")
            with pytest.raises(VolumeInUseError):
                await rig.registry.delete_volume("v")
            assert engine.snapshot is None
        await rig.registry.delete_volume("v")
        assert nothing_changed(rig)

    run(go)


def test_a_snapshot_that_is_another_one_after_a_restart_is_not_used(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        carried = rig.folder / "carried"
        carried.write_bytes(rig.content)
        async with rig.opened():
            await rig.registry.attach_snapshot("v", str(carried))
        os.replace(shutil.copy(carried, rig.folder / "copy"), carried)
        async with rig.opened() as engine:
            assert engine.snapshot is not None
            assert not engine.snapshot.is_reachable  # MRG-2

    run(go)


def test_selected_data_set_is_merged_and_nothing_else_also_after_a_restart(rig: Rig) -> None:
    """MRG-3: elsewhere the snapshot holds nonsense, and nobody is given it."""

    async def go() -> None:
        await rig.create()
        carried = rig.folder / "carried"
        nonsense = bytearray(b"\xee" * SIZE)
        part = slice(1 << 20, (1 << 20) + 40960)
        nonsense[part] = rig.content[part]
        carried.write_bytes(nonsense)
        extents = [(part.start, 8192), (part.start + 4096, 36864), (SIZE - 512, 512)]
        async with rig.opened():
            await rig.registry.attach_snapshot("v", str(carried), extents=extents)
        async with rig.opened() as engine:
            found = rig.registry.status("v")["snapshot"]
            assert found["extents"] == [[part.start, 40960], [SIZE - 512, 512]]
            assert found["bytes_covered"] == 40960
            assert rig.registry.status("v")["merge"]["bytes_total"] == 40960
            await rig.registry.merge_start("v")
            await merged(engine)
            status = rig.registry.status("v")
            assert status["merge"]["bytes_done"] == status["merge"]["bytes_total"] == 40960
            assert status["regions"]["current"] == 10
            assert status["state"] == "restoring"
            assert await read(engine, 0, 2 << 20) == rig.content[: 2 << 20]
            await rig.registry.detach_snapshot("v")
            assert rig.registry.status("v")["merge"]["bytes_total"] == SIZE

    run(go)


@pytest.mark.parametrize(
    ("extents", "error", "words"),
    [
        ([(0, 0)], BadSettingError, "at least 1"),
        ([(SIZE - 512, 1024)], OutOfRangeError, "beyond the end"),
        ([(2**63, 1)], OutOfRangeError, "beyond the end"),
        ([(512, 4096)], BadSettingError, "whole region of 4096 bytes"),
        ([], BadSettingError, "whole region"),
        ([(0, 4096)] * 5000, BadSettingError, "4096 are possible"),
    ],
)
def test_extents_that_cannot_be_used_change_nothing(
    rig: Rig, extents: list[tuple[int, int]], error: type[RestoreError], words: str
) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            with pytest.raises(error, match=words):
                await rig.registry.attach_snapshot("v", str(rig.primary), extents=extents)
            assert engine.snapshot is None
            assert engine.facts.get("snapshot") is None

    run(go)


def test_snapshot_attached_before_there_were_selections_covers_everything(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        carried = rig.folder / "carried"
        shutil.copyfile(rig.folder / "backup", carried)
        async with rig.opened() as engine:
            await rig.registry.attach_snapshot("v", str(carried))
            record = dict(engine.facts["snapshot"])
            del record["extents"]  # as an earlier version wrote it
            await engine.db.commit_facts({"snapshot": record})
        async with rig.opened() as engine:
            assert engine.snapshot is not None
            assert rig.registry.status("v")["snapshot"]["extents"] is None
            await rig.registry.merge_start("v")
            await merged(engine)
            assert rig.registry.status("v")["state"] == "in_sync"

    run(go)


def test_snapshot_that_names_another_lun_as_its_origin_is_refused(rig: Rig) -> None:
    """What the backup host exports says in its serial number whose snapshot it is (MRG-2)."""

    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            for origin, is_accepted in (("other", False), ("backup", True)):
                sockets = rig.folder / origin[0]
                sockets.mkdir()
                marked = f"new-snapshot-of-{origin}"
                with TgtTarget(sockets, rig.folder / "snapshot", identity=marked) as target:
                    if is_accepted:
                        await rig.registry.attach_snapshot("v", target.url)
                        continue
                    with pytest.raises(IdentityMismatchError, match=r"is serial\.other, but"):
                        await rig.registry.attach_snapshot("v", target.url)
                    assert engine.snapshot is None

    run(go)


def test_unfinished_restore_is_shown_and_keeps_the_volume(rig: Rig) -> None:
    record = RestoreRecord(
        volume="v",
        step=Step.MERGE,
        host=HostSettings(address="backup1"),
        request=SnapshotRequest(snapshot="restore-v", origin="block/v"),
        began="2026-11-23T00:00:00+00:00",
    )

    async def go() -> None:
        await rig.create()
        async with rig.opened():
            assert rig.registry.status("v")["restore_from"] is None
            save_record(rig.registry.state_dir, record)
            found = rig.registry.status("v")["restore_from"]
            assert found["remove"] == "tcmu-restore restore-from v --abort"
            assert (found["step"], found["snapshot"]) == ("merge", "restore-v")
        assert rig.registry.status("v")["restore_from"] == found
        with pytest.raises(UnfinishedRestoreError):
            await rig.registry.delete_volume("v")
        remove_record(rig.registry.state_dir, "v")
        await rig.registry.delete_volume("v")
        save_record(rig.registry.state_dir, record)
        with pytest.raises(UnfinishedRestoreError):  # its old snapshot must meet no new volume
            await rig.create()

    run(go)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"version": 1}', b'{"version": 2, "volume": "v"}', b"\xff", b"[" * 9999],
)
def test_damaged_record_of_a_restore_is_shown_as_such(rig: Rig, content: bytes) -> None:
    async def go() -> None:
        await rig.create()
        record_path(rig.registry.state_dir, "v").write_bytes(content)
        found = rig.registry.status("v")["restore_from"]
        assert "cannot be used" in found["error"]
        assert found["remove"].endswith("--abort")

    run(go)
