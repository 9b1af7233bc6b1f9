"""A volume whose only link, live and bulk at once, has 56 kbit/s and 300 ms each way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tcmu_restore.engine.merge_job import MergeState
from tcmu_restore.engine.volume_engine import VolumeEngine
from tests.support import tgt
from tests.support.slow_line import SlowLine

from .rig import SIZE, Rig, read, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(tgt.MISSING), reason=tgt.MISSING or "none"),
]


@pytest.fixture
def ports(rig: Rig) -> Iterator[tuple[int, int]]:
    """Relays to the backup and to the snapshot that share one line."""
    line = {"rate": 7000.0, "delay_seconds": 0.3}
    with SlowLine(rig.backup.port, **line) as live, SlowLine(rig.snapshot.port, **line) as bulk:
        bulk.share(live)
        yield live.port, bulk.port


def test_lun_answers_and_the_merge_creeps_on_and_survives_a_restart(
    rig: Rig, ports: tuple[int, int]
) -> None:
    async def test() -> None:
        await rig.create()
        path = rig.folder / "etc" / "v.toml"
        path.write_text(path.read_text().replace(f":{rig.backup.port}/", f":{ports[0]}/"))
        async with rig.opened() as engine:
            assert await read(engine, 0, 4096) == rig.content[:4096]
            url = rig.snapshot.url.replace(f":{rig.snapshot.port}/", f":{ports[1]}/")
            await rig.registry.attach_snapshot("v", url)
            await rig.registry.merge_start("v")
            await creeps(engine)
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await read(engine, SIZE - 4096, 4096) == rig.content[-4096:]
            assert loop.time() - began < 5
            assert engine.backup.statistics.session_losses == 0
            merged = engine.volume.state.counters.regions_merged
        async with rig.opened() as engine:
            assert engine.merge.state is MergeState.RUNNING
            assert engine.volume.state.counters.regions_merged >= merged
            await creeps(engine)
            assert engine.backup.statistics.session_losses == 0

    run(test)


async def creeps(engine: VolumeEngine) -> None:
    counters = engine.volume.state.counters
    start = counters.regions_merged
    async with asyncio.timeout(30):
        while counters.regions_merged < start + 3:  # noqa: ASYNC110 - nobody says it
            await asyncio.sleep(0.1)
