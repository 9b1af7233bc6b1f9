"""The map's numbers against counting region by region."""

from __future__ import annotations

import asyncio
import random

import pytest
from pyroaring import BitMap64

from tcmu_restore.core.geometry import Geometry
from tcmu_restore.core.region_sets import RegionSets
from tcmu_restore.engine.map_summary import KINDS, summarize
from tests.support.tgt import MISSING

from .rig import SIZE, Rig, read, run

REGION = 4096


def kind_of(sets: RegionSets, region: int) -> str:
    if region in sets.current:
        if region in sets.stale:
            return "stale"
        return "host_written" if region in sets.host_written else "current"
    if region in sets.outdated:
        return "outdated"
    return "in_doubt" if region in sets.in_doubt else "lost"


def random_sets(seed: int, count: int) -> RegionSets:
    chooser = random.Random(seed)

    def some(of: BitMap64) -> BitMap64:
        share = chooser.choice([0.0, 0.01, 0.5, 1.0])
        return BitMap64([region for region in of if chooser.random() < share])

    everything = BitMap64(range(count))
    current = some(everything)
    lost = everything - current
    return RegionSets(current, some(current), some(current), some(lost), some(lost), some(lost))


@pytest.mark.parametrize("seed", range(40))
def test_cells_are_what_counting_finds(seed: int) -> None:
    count = random.Random(seed).choice([1, 7, 300, 1000])
    geometry = Geometry(count * REGION - 512, 512, REGION, REGION)
    sets = random_sets(seed, count)
    for wanted in (1, 2, 99, 5000):
        found = asyncio.run(summarize(sets, geometry, wanted))
        cells = found["cells"]
        assert len(cells) == min(wanted, count)
        bounds = [index * count // len(cells) for index in range(len(cells) + 1)]
        for index, cell in enumerate(cells):
            kinds = [kind_of(sets, region) for region in range(bounds[index], bounds[index + 1])]
            assert cell == [kinds.count(kind) for kind in KINDS]


def test_loop_is_given_back_on_the_way() -> None:
    geometry = Geometry(1000 * REGION, 512, REGION, REGION)
    turns = 0

    async def go() -> None:
        nonlocal turns
        task = asyncio.ensure_future(summarize(RegionSets.empty(), geometry, 1000))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)

    asyncio.run(go())
    assert turns > 10


@pytest.mark.integration
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_map_of_an_open_volume(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await read(engine, 0, REGION)
            await engine.driver.wait_idle()
            document = await rig.registry.map("v", 4)
        assert document["kinds"] == list(KINDS)
        assert (document["volume"], document["size"]) == ("v", SIZE)
        quarter = SIZE // REGION // 4
        populated = document["cells"][0][0]
        assert populated >= 1
        assert document["cells"][0] == [populated, 0, 0, quarter - populated, 0, 0]
        assert document["cells"][3] == [0, 0, 0, quarter, 0, 0]

    run(go)
