"""Verify: finds exactly what differs, and mends it the way it is told."""

from __future__ import annotations

import pytest
from pyroaring import BitMap64

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.effects import Leg
from tcmu_restore.core.extent import Extent
from tcmu_restore.core.verify import Repair, plan_verify_step, verify_step
from tcmu_restore.core.volume import Volume
from tests.support.inline import REGION, InlineDriver, new_volume

REGIONS = 8


@pytest.fixture
def rig() -> tuple[Volume, InlineDriver]:
    volume = new_volume(REGIONS)
    size = REGIONS * REGION
    driver = InlineDriver(volume, {leg: bytearray(size) for leg in Leg})
    driver.run(volume.write(Extent(0, 6 * REGION), buffers_of(b"w" * 6 * REGION)))
    return volume, driver


def verify(rig: tuple[Volume, InlineDriver], repair: Repair) -> list[int]:
    volume, driver = rig
    found, cursor = BitMap64(), 0
    while (extent := plan_verify_step(volume.state, cursor, 2 * REGION)) is not None:
        driver.run(verify_step(volume.state, extent, repair, found))
        cursor = volume.state.geometry.regions(extent).stop
    return list(found)


def test_equal_sides_differ_nowhere(rig: tuple[Volume, InlineDriver]) -> None:
    assert verify(rig, Repair.NONE) == []
    assert rig[0].state.counters.regions_verified == 6  # the other two are lost


@pytest.mark.parametrize("repair", list(Repair))
def test_exactly_what_differs_is_found_and_mended(
    rig: tuple[Volume, InlineDriver], repair: Repair
) -> None:
    volume, driver = rig
    driver.legs[Leg.BACKUP][3 * REGION + 17] ^= 1
    driver.legs[Leg.PRIMARY][5 * REGION + 4095] ^= 1
    assert verify(rig, repair) == [3, 5]
    sets = volume.state.overwrite_map.sets
    assert list(sets.stale) == ([3, 5] if repair is Repair.PRIMARY else [])
    assert (3 in sets.current) == (repair is not Repair.BACKUP)
    if repair is Repair.BACKUP:
        memory = bytearray(REGION)
        driver.run(volume.read(Extent(3 * REGION, REGION), buffers_of(memory)))
        assert memory == driver.legs[Leg.BACKUP][3 * REGION : 4 * REGION]


def test_stale_and_lost_regions_are_passed_over(rig: tuple[Volume, InlineDriver]) -> None:
    volume, driver = rig
    volume.state.overwrite_map.mark_stale(BitMap64([1]))
    driver.legs[Leg.BACKUP][REGION] ^= 1
    driver.legs[Leg.BACKUP][7 * REGION] ^= 1
    assert verify(rig, Repair.PRIMARY) == []
