"""A carried disk is offered to its volume, used, pulled out, and used again; others' are not."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.engine import shipped_survey
from tcmu_restore.engine.registry import VolumeRegistry
from tcmu_restore.engine.shipped_mount import mount_read_only
from tcmu_restore.engine.shipped_survey import Places
from tcmu_restore.engine.volume_engine import VolumeEngine
from tcmu_restore.errors import WrongStateError
from tcmu_restore.sources.block_device import identity_of
from tcmu_restore.sources.file import FileStore
from tcmu_restore.sources.image_manifest import ImageHeader
from tests.sources.loop_device import loop_device
from tests.support.tgt import MISSING
from tests.transfer import images
from tests.transfer.images import EXTENT, export_source

from .rig import SIZE, Rig, merged, read, run

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

FRESH = "2126-01-02T03:04:05+00:00"
"""A clock of the backup host that is ahead: nothing here is older than the volume."""


@pytest.fixture
def places(rig: Rig) -> Places:
    for name in ("shelf", "run"):
        (rig.folder / name).mkdir()
    return Places(mount_folder=rig.folder / "run" / "shipped", shelves=(str(rig.folder / "shelf"),))


@contextmanager
def disk(rig: Rig) -> Iterator[str]:
    """A file system on a device."""
    path = rig.folder / "stick"
    with path.open("wb") as file:
        file.truncate(32 << 20)
    with loop_device(path) as device:
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        yield device


@contextmanager
def mounted(device: str, folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", device, str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def let_be_mounted(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """*device* counts as removable, and no other: the kernel tells of those of other tests, too."""
    status = os.stat(device)
    ours = (os.major(status.st_rdev), os.minor(status.st_rdev))
    monkeypatch.setattr(shipped_survey, "is_removable", lambda sysfs, number: number == ours)


@pytest.fixture
def stick(rig: Rig) -> Iterator[str]:
    with disk(rig) as device:
        yield device


async def export(
    rig: Rig, folder: Path, monkeypatch: pytest.MonkeyPatch, *, taken: str = FRESH, **change: Any
) -> Path:
    """Write the snapshot of the rig's backup to *folder*."""
    plain = images.header
    monkeypatch.setattr(
        images, "header", lambda source, **more: _taken(plain(source, **more), taken)
    )
    identity = rig.registry.status("v")["backup"]["identity"]
    source = FileStore.open(rig.folder / "snapshot", read_only=True)
    await export_source(source, folder, **({"backup": identity} | change))
    await source.close()
    monkeypatch.setattr(images, "header", plain)
    return folder


def _taken(header: ImageHeader, taken: str) -> ImageHeader:
    return replace(header, taken=taken)


@asynccontextmanager
async def served(rig: Rig, places: Places, definition: str = "") -> AsyncIterator[VolumeEngine]:
    """The volume, made if it is not there yet, with a definition of its own."""
    rig.registry = VolumeRegistry(rig.folder / "etc", rig.folder / "var", places=places)
    if "v" not in rig.registry.list_volumes():
        await rig.create()
    path = rig.folder / "etc" / "v.toml"
    path.write_text(path.read_text().partition("[shipped]")[0] + f"[shipped]\n{definition}")
    async with rig.opened() as engine:
        yield engine


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread and the kernel do."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the kernel tells nobody here
            await asyncio.sleep(0.01)


def mount_lines() -> str:
    return Path("/proc/mounts").read_text()


def shipped(rig: Rig) -> list[dict[str, str]]:
    found: list[dict[str, str]] = rig.registry.status("v")["shipped"]
    return found


def test_disk_that_is_mounted_is_offered_and_another_volumes_is_not(
    rig: Rig, places: Places, stick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with served(rig, places) as engine:
            with mounted(stick, rig.folder / "aside"):
                await export(rig, rig.folder / "aside" / "ours", monkeypatch)
                theirs = {"backup": "naa.5000c500/serial.other"}
                await export(rig, rig.folder / "aside" / "theirs", monkeypatch, **theirs)
                os.symlink(rig.folder / "aside" / "ours", rig.folder / "aside" / "link")
                (rig.folder / "aside" / "wild\x1b[2J").mkdir()
            assert shipped(rig) == []
            with mounted(stick, rig.folder / "shelf" / "usb") as folder:
                await until(lambda: bool(shipped(rig)))
                assert shipped(rig) == [{"path": f"{folder}/ours", "taken": FRESH, "problem": ""}]
                assert any("has arrived" in str(e["sentence"]) for e in engine.events.as_list())
                await rig.registry.attach_snapshot("v", f"{folder}/ours")
                assert shipped(rig) == []
                await rig.registry.detach_snapshot("v")
                assert shipped(rig)
            await until(lambda: not shipped(rig))
            assert engine.snapshot is None

    run(go)


@pytest.mark.parametrize(
    ("taken", "size", "problem"),
    [
        ("2020-01-02T03:04:05+00:00", SIZE, "may be older than what was written"),
        (FRESH, SIZE // 2, f"has {SIZE // 2} bytes where {SIZE} are needed"),
    ],
)
def test_snapshot_that_does_not_fit_is_shown_with_why_and_never_taken_by_itself(  # noqa: PLR0917
    rig: Rig,
    places: Places,
    stick: str,
    monkeypatch: pytest.MonkeyPatch,
    taken: str,
    size: int,
    problem: str,
) -> None:
    async def go() -> None:
        async with served(rig, places, "auto_attach = true\n") as engine:
            with mounted(stick, rig.folder / "aside"):
                os.truncate(rig.folder / "snapshot", size)
                await export(rig, rig.folder / "aside" / "ours", monkeypatch, taken=taken)
            with mounted(stick, rig.folder / "shelf" / "usb"):
                await until(lambda: bool(shipped(rig)))
                assert problem in shipped(rig)[0]["problem"]
                assert engine.facts["snapshot"] is None

    run(go)


def test_disk_is_mounted_taken_and_let_go_by_itself_if_the_definition_says_so(
    rig: Rig, places: Places, stick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_be_mounted(stick, monkeypatch)

    async def go() -> None:
        async with served(rig, places, "mount = true\nauto_attach = true\n") as engine:
            with mounted(stick, rig.folder / "aside"):
                await export(rig, rig.folder / "aside" / "ours", monkeypatch)
            rig.registry._disk_appeared(frozenset({stick, "/dev/disk/by-id/" + "x" * 40}))
            await until(lambda: engine.facts["snapshot"] is not None)
            point = f"{places.mount_folder}/{os.path.basename(stick)}"
            assert engine.facts["snapshot"]["source"] == f"{point}/ours"
            (line,) = [m for m in mount_lines().splitlines() if point in m]
            options = set(line.split()[3].split(","))
            assert {"ro", "nosuid", "nodev", "noexec", "nosymfollow", "norecovery"} <= options
            assert oct(os.stat(places.mount_folder).st_mode & 0o777) == "0o700"
            await merged(engine)
            assert engine.backup.statistics.read_bytes == 0
            await rig.registry.detach_snapshot("v")
            assert point not in mount_lines()
            assert list(places.mount_folder.iterdir()) == []
        assert rig.primary.read_bytes()[:SIZE] == rig.content

    run(go)


@pytest.mark.parametrize("definition", ["", "auto_attach = true\n"])
def test_nothing_is_mounted_unless_the_definition_says_so(
    rig: Rig, places: Places, stick: str, monkeypatch: pytest.MonkeyPatch, definition: str
) -> None:
    let_be_mounted(stick, monkeypatch)
    monkeypatch.setattr(shipped_survey, "mount_read_only", _must_not_be_called)

    async def go() -> None:
        async with served(rig, places, definition):
            rig.registry._disk_appeared(frozenset({stick}))
            await _looked(rig)
        assert not places.mount_folder.exists()

    run(go)


def _must_not_be_called(*_: Any) -> bool:
    raise AssertionError("a disk was mounted")


async def _looked(rig: Rig) -> None:
    disks = rig.registry._shipped
    assert disks is not None
    disks.look()
    await until(lambda: disks._task is None)


def test_disk_with_nothing_of_ours_is_unmounted_again_and_a_primary_never_mounted(
    rig: Rig, places: Places, stick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_be_mounted(stick, monkeypatch)
    tried = []

    def mount(device: str, folder: Path) -> bool:
        tried.append(device)
        return mount_read_only(device, folder)

    monkeypatch.setattr(shipped_survey, "mount_read_only", mount)

    async def go() -> None:
        async with served(rig, places, "mount = true\n") as engine:
            rig.registry._disk_appeared(frozenset({stick}))
            await _looked(rig)
            assert set(tried) == {stick}
            assert str(places.mount_folder) not in mount_lines()
            tried.clear()
            engine.guard.identity = identity_of(stick) or ""
            rig.registry._disk_appeared(frozenset({stick}))
            await _looked(rig)
            assert tried == []

    run(go)


def test_disk_that_is_pulled_out_and_put_back_is_used_again(
    rig: Rig, places: Places, stick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with served(rig, places, f"[options]\nmerge_step = {EXTENT}\n") as engine:
            with mounted(stick, rig.folder / "aside"):
                await export(rig, rig.folder / "aside" / "ours", monkeypatch)
            with mounted(stick, rig.folder / "shelf" / "one") as folder:
                await rig.registry.attach_snapshot("v", f"{folder}/ours")
                status = os.stat(stick)
                disks = rig.registry._shipped
                assert disks is not None
                disks._removed((os.major(status.st_rdev), os.minor(status.st_rdev)))
            await rig.registry.merge_start("v")
            await until(lambda: "pulled out" in rig.registry.status("v")["merge"]["reason"])
            now = rig.registry.status("v")
            assert (now["snapshot"]["reachable"], now["merge"]["state"]) == (False, "running")
            assert "pulled out" in now["snapshot"]["reason"]
            assert await read(engine, 8192, 4096) == rig.content[8192:12288]
            with pytest.raises(WrongStateError):
                await rig.registry.detach_snapshot("v")
            with mounted(stick, rig.folder / "shelf" / "two") as folder:
                await merged(engine)
                record = engine.facts["snapshot"]
                assert record["source"] == f"{folder}/ours"
                await rig.registry.detach_snapshot("v")
        assert rig.primary.read_bytes()[:SIZE] == rig.content

    run(go)


def test_merge_waits_for_its_disk_over_a_restart(
    rig: Rig, places: Places, stick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with served(rig, places) as engine:
            with mounted(stick, rig.folder / "shelf" / "one") as folder:
                await export(rig, folder / "ours", monkeypatch)
                await rig.registry.attach_snapshot("v", f"{folder}/ours")
                engine.merge.pause()
        async with served(rig, places) as engine:
            assert not rig.registry.status("v")["snapshot"]["reachable"]
            await rig.registry.merge_resume("v")
            await until(lambda: "No such file" in rig.registry.status("v")["merge"]["reason"])
            with mounted(stick, rig.folder / "shelf" / "two"):
                await merged(engine)
                await rig.registry.detach_snapshot("v")
        assert rig.primary.read_bytes()[:SIZE] == rig.content

    run(go)
