"""The bulk link around attach, merge and detach: real commands, real targets, crashes in between.

The commands write a line each to a log, which is what the tests look at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.engine import bulk_link
from tcmu_restore.engine.status import describe
from tcmu_restore.engine.volume_engine import VolumeEngine
from tcmu_restore.errors import (
    BadSettingError,
    LinkCommandError,
    SourceUnreachableError,
    WrongStateError,
)
from tcmu_restore.sources.iscsi import IscsiStore
from tests.support import tgt

from .rig import SIZE, Rig, merged, read, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(tgt.MISSING), reason=tgt.MISSING or "none"),
]


class Commands:
    """Two scripts, and what they did."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "commands"
        self._log.touch()
        for word in ("up", "down"):
            self.make(word, "")

    def make(self, word: str, script: str) -> None:
        path = self._folder / word
        path.write_text(f"#!/bin/sh\necho {word} >>{self._log}\n{script}\n")
        path.chmod(0o755)

    @property
    def link(self) -> dict[str, Any]:
        up, down = str(self._folder / "up"), str(self._folder / "down")
        return {"link_up": [up], "link_down": [down], "link_timeout_seconds": 1}

    @property
    def done(self) -> list[str]:
        return self._log.read_text().split()


@pytest.fixture
def commands(rig: Rig) -> Commands:
    return Commands(rig.folder)


async def attach(rig: Rig, commands: Commands) -> None:
    await rig.registry.attach_snapshot("v", rig.snapshot.url, link=commands.link)


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 - processes do it, not this loop
            await asyncio.sleep(0.01)


def link_of(engine: VolumeEngine) -> dict[str, Any]:
    status: dict[str, Any] = describe(engine)["bulk_link"]
    return status


def test_link_is_up_for_attach_and_merge_and_down_afterwards(rig: Rig, commands: Commands) -> None:
    async def test() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await attach(rig, commands)
            assert commands.done == ["up"]
            assert link_of(engine)["take_down"] == "tcmu-restore link down v"
            await rig.registry.merge_start("v")
            await merged(engine)
            await engine.link.ended()
            assert commands.done == ["up", "down"]
            assert link_of(engine) == {"state": "down", "reason": "", "take_down": ""}
            assert engine.snapshot is not None
            assert not engine.snapshot.is_reachable  # nothing dials it up again
        assert rig.primary.read_bytes()[:SIZE] == rig.content
        assert commands.done == ["up", "down"]

    run(test)


def test_cancel_and_detach_take_the_link_down(rig: Rig, commands: Commands) -> None:
    async def test() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await attach(rig, commands)
            await rig.registry.merge_start("v")
            await rig.registry.merge_cancel("v")
            assert commands.done == ["up", "down"]
            await rig.registry.merge_start("v")
            await rig.registry.merge_pause("v")
            assert commands.done == ["up", "down", "up"]
            await rig.registry.link_down("v")
            assert link_of(engine)["state"] == "down"
            await rig.registry.merge_resume("v")
            await rig.registry.merge_cancel("v")
            await rig.registry.detach_snapshot("v")
            await attach(rig, commands)
            await rig.registry.detach_snapshot("v")
            assert commands.done == ["up", "down"] * 4
            assert link_of(engine) is None

    run(test)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no carrier; exit 1", "failed with status 1 (no carrier)"),
        ("sleep 100", "was killed: it had not ended after 1 s"),
    ],
)
def test_link_that_does_not_come_up_leaves_everything_as_it_was(
    rig: Rig, commands: Commands, script: str, said: str
) -> None:
    async def test() -> None:
        await rig.create()
        commands.make("up", script)
        async with rig.opened() as engine:
            with pytest.raises(LinkCommandError) as caught:
                await attach(rig, commands)
            assert said in str(caught.value)
            assert str(caught.value).endswith("was taken down again, and no merge was started.")
            assert engine.snapshot is None
            assert commands.done == ["up", "down"]
            commands.make("up", "")
            await attach(rig, commands)
            await rig.registry.link_down("v")
            commands.make("up", script)
            with pytest.raises(LinkCommandError):
                await rig.registry.merge_start("v")
            assert describe(engine)["merge"]["state"] == "idle"
            assert link_of(engine)["state"] == "down"

    run(test)


def test_unreachable_snapshot_takes_the_link_down_again(rig: Rig, commands: Commands) -> None:
    async def test() -> None:
        await rig.create()
        rig.snapshot.kill()
        async with rig.opened() as engine:
            with pytest.raises(SourceUnreachableError):
                await attach(rig, commands)
            assert commands.done == ["up", "down"]
            assert link_of(engine) is None

    run(test)


def test_link_that_cannot_be_taken_down_is_shown_with_the_command(
    rig: Rig, commands: Commands
) -> None:
    async def test() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await attach(rig, commands)
            await rig.registry.merge_start("v")
            with pytest.raises(WrongStateError, match="the merge runs"):
                await rig.registry.link_down("v")
            commands.make("down", "exit 7")
            with pytest.raises(LinkCommandError, match="tcmu-restore link down v"):
                await rig.registry.merge_cancel("v")
            link = link_of(engine)
            assert link["state"] == "unknown"
            assert "failed with status 7" in link["reason"]
            assert link["take_down"] == "tcmu-restore link down v"
            with pytest.raises(LinkCommandError):
                await rig.registry.detach_snapshot("v")
            assert engine.snapshot is None
            assert link_of(engine)["state"] == "unknown"
        closed = rig.registry.status("v")  # closing it tried once more
        assert closed["bulk_link"]["take_down"] == "tcmu-restore link down v"
        with pytest.raises(LinkCommandError):
            await rig.registry.delete_volume("v")
        commands.make("down", "")
        await rig.registry.link_down("v")
        assert rig.registry.status("v")["bulk_link"] is None
        with pytest.raises(WrongStateError, match="no command has brought it up"):
            await rig.registry.link_down("v")

    run(test)


async def crash(rig: Rig) -> None:
    """Forget the open volume as a killed process does; only its file handles are closed."""
    engine = rig.registry._open.pop("v")
    engine.link._is_closed = True
    engine.link._stop_redialling()
    engine.merge.close()
    engine.resync.stop()
    engine._checkpoints.stop()
    if engine.snapshot is not None:
        await engine.snapshot.close()
    await engine.backup.close()
    await engine.driver.wait_idle()
    await engine.db.close()
    await engine.guard.close()
    assert engine.performer.primary is not None
    await engine.performer.primary.close()


@pytest.mark.parametrize("is_merging", [False, True])
def test_after_a_crash_the_link_is_taken_down_and_up_only_for_the_merge(
    rig: Rig, commands: Commands, is_merging: bool
) -> None:
    async def test() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await attach(rig, commands)
            if is_merging:
                rig.snapshot.freeze()
                await rig.registry.merge_start("v")
            await crash(rig)
        rig.snapshot.thaw()
        assert commands.done == ["up"]
        assert rig.registry.status("v")["bulk_link"]["state"] == "unknown"
        async with rig.opened() as engine:
            if is_merging:
                await merged(engine)
            await until(lambda: link_of(engine)["state"] == "down")
            expected = ["up", "down", "up", "down"] if is_merging else ["up", "down"]
            assert commands.done == expected
        assert rig.registry.status("v")["bulk_link"] is None

    run(test)


def test_crash_while_the_link_comes_up_counts_as_up(rig: Rig, commands: Commands) -> None:
    async def test() -> None:
        await rig.create()
        commands.make("up", "sleep 0.5")
        async with rig.opened():
            task = asyncio.create_task(attach(rig, commands))
            await until(lambda: commands.done == ["up"])
            await crash(rig)
            task.cancel()
            await asyncio.wait([task])
        async with rig.opened():
            await until(lambda: rig.registry.status("v")["bulk_link"] is None)
            assert commands.done == ["up", "down"]

    run(test)


def test_rebuilt_state_knows_that_the_link_may_be_up(rig: Rig, commands: Commands) -> None:
    async def test() -> None:
        await rig.create()
        async with rig.opened():
            await attach(rig, commands)
            await crash(rig)
        await rig.registry.rebuild_state("v")
        assert rig.registry.status("v")["bulk_link"]["state"] == "unknown"
        await rig.registry.link_down("v")
        assert commands.done == ["up", "down"]

    run(test)


def test_close_kills_a_command_that_hangs(rig: Rig, commands: Commands) -> None:
    async def test() -> None:
        await rig.create()
        commands.make("up", "sleep 100")
        link = commands.link | {"link_timeout_seconds": 300}
        async with rig.opened():
            task = asyncio.create_task(
                rig.registry.attach_snapshot("v", rig.snapshot.url, link=link)
            )
            await until(lambda: commands.done == ["up"])
        with pytest.raises(LinkCommandError, match="the volume is being closed"):
            await task
        assert commands.done == ["up", "down"]

    run(test)


def test_dead_bulk_link_pauses_the_merge_and_the_live_link_serves(
    rig: Rig, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_link, "REDIAL_SECONDS", 0.1)

    async def test() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await attach(rig, commands)
            rig.snapshot.kill()
            await rig.registry.merge_start("v")
            await until(lambda: engine.merge.reason.startswith("waiting for the bulk link: "))
            assert describe(engine)["merge"]["state"] == "running"
            assert await read(engine, SIZE - 8192, 8192) == rig.content[-8192:]
            await until(lambda: commands.done.count("up") >= 3)  # tried again, with pauses
            rig.snapshot.start()
            await merged(engine)
            await engine.link.ended()
            assert commands.done[-1] == "down"
            assert commands.done.count("down") == 1
        assert rig.primary.read_bytes()[:SIZE] == rig.content

    run(test)


def test_link_that_does_not_come_up_again_is_said_and_tried_on(
    rig: Rig, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_link, "REDIAL_SECONDS", 0.1)

    async def test() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await attach(rig, commands)
            rig.snapshot.kill()
            commands.make("up", "exit 1")
            await rig.registry.merge_start("v")
            await until(lambda: commands.done.count("up") >= 3)
            said = "and the merge waits, and it is tried again."  # but for the moment of a try
            await until(lambda: link_of(engine)["reason"].endswith(said))
            assert describe(engine)["merge"]["state"] == "running"
            commands.make("up", "")
            rig.snapshot.start()
            await merged(engine)

    run(test)


def test_pauses_between_tries_grow(
    rig: Rig, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_link, "REDIAL_SECONDS", 0.05)
    monkeypatch.setattr(bulk_link, "REDIAL_SECONDS_MAX", 0.2)
    pauses: list[float] = []
    redial = bulk_link.BulkLink._redial_due

    def after_a_pause(link: bulk_link.BulkLink) -> None:
        pauses.append(round(link._pause, 3))
        redial(link)

    monkeypatch.setattr(bulk_link.BulkLink, "_redial_due", after_a_pause)

    async def test() -> None:
        await rig.create()
        async with rig.opened():
            await attach(rig, commands)
            rig.snapshot.kill()
            await rig.registry.merge_start("v")
            await until(lambda: len(pauses) >= 4)
            assert pauses[:4] == [0.05, 0.1, 0.2, 0.2]

    run(test)


def test_link_of_a_file_is_refused(rig: Rig, commands: Commands) -> None:
    async def test() -> None:
        await rig.create()
        async with rig.opened():
            with pytest.raises(BadSettingError, match="no iscsi:// URL has no link"):
                await rig.registry.attach_snapshot(
                    "v", str(rig.folder / "snapshot"), link=commands.link
                )
            assert commands.done == []

    run(test)


def test_definition_has_the_settings_that_attach_leaves_out(rig: Rig, commands: Commands) -> None:
    async def test() -> None:
        await rig.create()
        words = commands.link
        path = rig.folder / "etc" / "v.toml"
        path.write_text(
            f"{path.read_text()}[snapshot_link]\nlink_up = {words['link_up']}\n"
            f"link_down = {words['link_down']}\nsessions = 3\n"
        )
        async with rig.opened() as engine:
            await rig.registry.attach_snapshot("v", rig.snapshot.url, link={"sessions": 1})
            assert commands.done == ["up"]
            assert engine.link.settings.sessions == 1
            assert isinstance(engine.snapshot, IscsiStore)
            assert len(engine.snapshot._links) == 1

    run(test)
