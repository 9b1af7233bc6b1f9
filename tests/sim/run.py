"""Runs one seed: a random workload with faults against the oracle."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.extent import Extent
from tcmu_restore.core.merge import plan_merge_step
from tcmu_restore.core.resync import plan_resync_step

from .oracle import Entry, Oracle, Reading
from .stores import UNIT
from .world import REGION, REGIONS, SIZE, World

UNITS = SIZE // UNIT


class Simulation:
    """One seed's world, oracle and workload."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.world = World(self.rng)
        self.oracle = Oracle(bytes(self.world.backup.cached))

    def run(self, rounds: int = 5, steps: int = 60) -> None:
        for _ in range(rounds):
            for _ in range(steps):
                self.step()
            self.settle()

    def step(self) -> None:
        rng, world = self.rng, self.world
        roll = rng.random()
        if roll < 0.006:
            self.crash()
        elif roll < 0.02 and world.is_linked:
            world.cut_link(power_too=rng.random() < 0.5)
        elif roll < 0.06:
            world.is_linked = True
        elif roll < 0.075:
            world.snapshot = bytes(world.backup.cached)
        elif roll < 0.35 and len(world.tasks) < 6:
            self.begin()
        else:
            ready = world.ready()
            if ready:
                world.complete(*rng.choice(ready))
            else:
                assert not world.tasks, "deadlock"

    def begin(self) -> None:
        rng, volume, world = self.rng, self.world.volume, self.world
        roll = rng.random()
        if roll < 0.4:
            self.begin_write()
        elif roll < 0.6:
            unit = rng.randrange(UNITS)
            extent = Extent(unit * UNIT, rng.randrange(1, min(20, UNITS - unit) + 1) * UNIT)
            memory = bytearray(extent.length)
            reading = self.oracle.begin_read(extent.offset, extent.length)
            done = partial(self.read_done, reading, memory)
            world.start(volume.read(extent, buffers_of(memory)), done)
        elif roll < 0.75 and world.snapshot is not None:
            plan = plan_merge_step(volume.state, rng.randrange(REGIONS), 2 * REGION)
            if plan.step is not None:
                world.start(volume.merge_step(plan.step), lambda _: None)
        elif roll < 0.82:
            extent_or_none = plan_resync_step(volume.state, 2 * REGION)
            if extent_or_none is not None:
                world.start(volume.resync_step(extent_or_none), lambda _: None)
        elif roll < 0.93:
            world.start(volume.flush(), partial(self.flush_done, self.oracle.tick()))
        else:
            world.start(volume.checkpoint(), partial(self.flush_done, self.oracle.tick()))

    def begin_write(self) -> None:
        rng, volume = self.rng, self.world.volume
        unit = rng.randrange(UNITS)
        extent = Extent(unit * UNIT, rng.randrange(1, min(20, UNITS - unit) + 1) * UNIT)
        fua = rng.random() < 0.2
        if rng.random() < 0.15:
            data = bytes(extent.length)
            procedure = volume.zero(extent, fua=fua)
        else:
            data = rng.randbytes(UNIT) * (extent.length // UNIT)
            procedure = volume.write(extent, buffers_of(data), fua=fua)
        entries = self.oracle.begin_write(extent.offset, data)
        self.world.start(procedure, partial(self.write_done, entries, fua))

    def write_done(self, entries: list[tuple[int, Entry]], fua: bool, error: Any) -> None:
        if error is None:  # else it may have taken place or not, for ever
            self.oracle.end_write(entries, durable=fua)

    def read_done(self, reading: Reading, memory: bytearray, error: Any) -> None:
        if reading in self.oracle.readings:
            self.oracle.end_read(reading, None if error else bytes(memory))

    def flush_done(self, began: int, error: Any) -> None:
        if error is None:
            self.oracle.flushed(began)

    def crash(self) -> None:
        self.world.power_cut()
        self.oracle.crashed(self.world.content(), self.world.unsettled())

    def settle(self) -> None:
        """Let everything end, then bring both sides together and compare them."""
        world = self.world
        self.drain()
        self.oracle.check_quiet(world.content(), "the volume")
        world.is_linked = True
        while (extent := plan_resync_step(world.volume.state, 4 * REGION)) is not None:
            world.start(world.volume.resync_step(extent), lambda _: None)
            self.drain()
        current = set(range(REGIONS)) - set(world.lost())
        for region in current:  # MIR-3
            part = slice(region * REGION, (region + 1) * REGION)
            assert world.primary.cached[part] == world.backup.cached[part], f"legs differ: {region}"

    def drain(self) -> None:
        while self.world.tasks:
            ready = self.world.ready()
            assert ready, "deadlock"
            self.world.complete(*self.rng.choice(ready))
        assert len(self.world.volume.state.locks) == 0
        assert not list(self.world.volume.state.fetches)


def run_seed(seed: int) -> None:
    """Raise AssertionError if *seed* finds a mistake."""
    Simulation(seed).run()
