"""Access counts of an open volume: counted, kept with the state, and used by the merge."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.core.extent import Extent
from tcmu_restore.core.merge import MergeStep
from tcmu_restore.engine import heat_keeper
from tcmu_restore.engine.command import CommandKind
from tcmu_restore.engine.state_db import StateDb
from tcmu_restore.engine.state_rebuild import rebuild
from tcmu_restore.engine.volume_engine import VolumeEngine
from tcmu_restore.errors import OutOfRangeError
from tcmu_restore.units import MiB

from .rig import Rig, do, merged, read, run

pytestmark = pytest.mark.integration


async def warm(engine: VolumeEngine, chunk: int) -> None:
    """Read one region of *chunk* again and again, in turn with chunk 0."""
    for _ in range(20):
        await read(engine, chunk * MiB + 4096, 4096)
        await read(engine, 0, 4096)


def test_counts_outlive_a_restart_and_lead_the_merge(rig: Rig) -> None:
    async def test() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await warm(engine, 5)
        rig.registry = type(rig.registry)(rig.folder / "etc", rig.folder / "var")
        async with rig.opened() as engine:
            assert engine.volume.state.heat.hot_chunks() == [0, 5]
            steps: list[Extent] = []
            begin = engine.merge._begin

            def note(step: MergeStep) -> None:
                steps.append(step.extent)
                begin(step)

            engine.merge._begin = note  # type: ignore[method-assign]
            await rig.registry.attach_snapshot("v", rig.snapshot.url)
            await rig.registry.merge_start("v")
            await merged(engine)
            chunks = list(dict.fromkeys(step.offset // MiB for step in steps))
            assert chunks == [0, 5, 1, 2, 3, 4, 6, 7]
            assert engine.volume.state.overwrite_map.lost_count == 0

    run(test)


def test_counts_are_committed_now_and_then_and_not_for_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heat_keeper, "KEEP_SECONDS", 0.05)

    async def test() -> None:
        await rig.create()
        async with rig.opened() as engine:
            commits: list[dict[str, Any]] = []
            commit, kept = engine.db.commit_facts, asyncio.Event()

            def note(facts: dict[str, Any]) -> asyncio.Future[None]:
                commits.append(facts)
                kept.set()
                return commit(facts)

            engine.db.commit_facts = note  # type: ignore[method-assign]
            engine.heat_keeper.stop()
            engine.heat_keeper.start()
            await do(engine, CommandKind.WRITE, 3 * MiB, bytes(4096))
            await asyncio.wait_for(kept.wait(), 5)
            assert commits[0]["heat"]["counts"] == [3, 1]
            count = len(commits)
            engine.heat_keeper._tick()  # nothing was accessed since
            assert len(commits) == count

    run(test)


def test_what_is_no_access_or_outside_is_not_counted(rig: Rig) -> None:
    async def test() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await do(engine, CommandKind.FLUSH, 0, b"")
            await do(engine, CommandKind.UNMAP, 0, bytes(4096))
            with pytest.raises(OutOfRangeError):
                await read(engine, 8 * MiB, 4096)
            assert engine.volume.state.heat.accesses == 0

    run(test)


def test_rebuilt_state_keeps_the_counts(tmp_path: Path) -> None:
    facts = {"size": 8 * MiB, "block_size": 512, "region_size": 4096, "zone_size": 4 * MiB}
    heat = {"chunk_size": MiB, "accesses": 10, "counts": [5, 10]}
    path = tmp_path / "v.db"
    StateDb.create(path, facts | {"heat": heat})
    rebuild(path, facts)
    assert StateDb.peek(path)["heat"] == heat
