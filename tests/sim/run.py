"""Runs one seed: a random workload with faults against the oracle."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from random import Random
from typing import Any

from pyroaring import BitMap64

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.extent import Extent
from tcmu_restore.core.merge import MergeStep, plan_merge_step
from tcmu_restore.core.merge_order import MergeOrder
from tcmu_restore.core.resync import plan_resync_step
from tcmu_restore.core.verify import Repair, plan_verify_step
from tcmu_restore.core.volume import Volume
from tcmu_restore.errors import MiscompareError, RestoreError

from .faults import FAULTS, Faults
from .growth import Growth
from .oracle import Entry, Oracle, Reading
from .races import Races
from .stores import UNIT
from .world import REGION, World

ROUNDS = 4
STEPS = 80
"""Steps a round; between two rounds everything is let run to its end and compared."""

RETRIES_MAX = 3


class Simulation:
    """One seed's world, oracle and workload.

    Each step draws from a generator of its own, so a step can be left out and the others stay
    what they were: that is how a failing seed is made small.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.growth = Growth(self, seed, ROUNDS * STEPS)
        self.world = World(self.rng, self.growth.first_size)
        self.oracle = Oracle(bytes(self.world.backup.cached))
        self.world.on_accept = self.accepted
        self.faults = Faults(self.world, self.oracle, self.rng)
        self.enabled = [name for name in FAULTS if self.rng.random() < 0.5]
        self.races = Races(self)
        self.trace: list[str] = []
        self.replacing: Volume | None = None
        self.preparing: Volume | None = None
        self.growing: Volume | None = None
        self.merging: Volume | None = None
        """The volume that *order* is for."""
        self.order = MergeOrder(self.world.volume.state)

    def run(self, keep: Collection[int] | None = None) -> None:
        for number in range(ROUNDS * STEPS):
            if keep is None or number in keep:
                self.rng.seed(self.seed << 16 | number)
                self.step(number)
            if number % STEPS == STEPS - 1:
                self.rng.seed(self.seed << 16 | number | 1 << 15)
                self.settle()

    def step(self, number: int) -> None:
        rng, world = self.rng, self.world
        if number in self.growth.steps:
            self.trace.append(f"{number}: grow {self.growth.step()}")
            return
        roll = rng.random()
        if roll < 0.06:
            if self.enabled:
                name = rng.choice(self.enabled)
                self.trace.append(f"{number}: {name}")
                getattr(self.faults, name)()
        elif roll < 0.1:
            self.faults.mend()
        elif roll < 0.36 and len(world.tasks) < 6:
            self.trace.append(f"{number}: {self.begin()}")
        else:
            ready = world.ready()
            if ready:
                world.complete(*rng.choice(ready))
            else:
                assert not world.tasks, "deadlock"

    # --- what the host does -----------------------------------------------------------------

    def begin(self) -> str:
        roll = self.rng.random()
        for limit, action in (
            (0.34, self.begin_write),
            (0.38, self.begin_compare_and_write),
            (0.56, self.begin_read),
            (0.68, self.begin_merge),
            (0.72, self.begin_resync),
            (0.74, self.begin_verify),
            (0.84, self.begin_flush),
            (0.9, self.begin_checkpoint),
            (0.915, self.races.bad_sector_race),
            (0.93, self.races.edge_race),
            (0.937, self.races.recovery_race),
            (0.944, self.races.outdated_race),
            (0.959, self.races.attach_race),
            (1.0, self.begin_verb),
        ):
            if roll < limit:
                return f"{action.__name__} {action()}"
        raise AssertionError

    def extent(self) -> Extent:
        units = self.oracle.size // UNIT
        unit = self.rng.randrange(units)
        length = self.rng.randrange(1, min(20, units - unit) + 1)
        if self.rng.random() < 0.3:  # whole regions
            return self.world.extent_of(unit * UNIT // REGION)
        return Extent(unit * UNIT, length * UNIT)

    def region(self) -> int:
        return self.rng.randrange(self.world.geometry.region_count)

    def begin_write(self) -> Extent:
        extent = self.extent()
        fua, zero = self.rng.random() < 0.2, self.rng.random() < 0.15
        data = bytes(extent.length) if zero else self.rng.randbytes(UNIT) * (extent.length // UNIT)
        entries = self.oracle.begin_write(extent.offset, data)
        self.send_write(extent, None if zero else data, entries, fua, RETRIES_MAX)
        return extent

    def write_extent(self, extent: Extent) -> None:
        data = self.rng.randbytes(UNIT) * (extent.length // UNIT)
        entries = self.oracle.begin_write(extent.offset, data)
        self.send_write(extent, data, entries, False, 0)

    def send_write(
        self,
        extent: Extent,
        data: bytes | None,
        entries: list[tuple[int, Entry]],
        fua: bool,
        tries: int,
    ) -> None:
        volume = self.world.volume
        if data is None:
            procedure = volume.zero(extent, fua=fua)
        else:
            procedure = volume.write(extent, buffers_of(data), fua=fua)

        def done(error: RestoreError | None) -> None:
            if error is None:
                self.oracle.end_write(entries, durable=fua)
            elif error.retryable and tries and self.rng.random() < 0.5:  # as for a held command
                self.send_write(extent, data, entries, fua, tries - 1)

        self.world.start(procedure, done)

    def begin_compare_and_write(self) -> Extent:
        extent = self.extent()
        first, last = extent.offset // UNIT, extent.end // UNIT
        expected = b"".join(min(self.oracle.visible(unit)) for unit in range(first, last))
        data = self.rng.randbytes(UNIT) * (extent.length // UNIT)
        entries = self.oracle.begin_write(extent.offset, data)

        def done(error: RestoreError | None) -> None:
            if error is None:
                self.oracle.end_write(entries, durable=False)
            elif isinstance(error, MiscompareError):
                self.oracle.withdraw(entries)

        buffers = buffers_of(expected + data)
        self.world.start(self.world.volume.compare_and_write(extent, buffers), done)
        return extent

    def begin_read(self) -> Extent:
        extent = self.extent()
        self.read_extent(extent)
        return extent

    def read_extent(self, extent: Extent) -> None:
        memory = bytearray(extent.length)
        reading = self.oracle.begin_read(extent.offset, extent.length)
        done = partial(self.read_done, reading, memory)
        self.world.start(self.world.volume.read(extent, buffers_of(memory)), done)

    def read_done(self, reading: Reading, memory: bytearray, error: Any) -> None:
        self.oracle.end_read(reading, None if error else bytes(memory))

    def begin_merge(self) -> Extent | None:
        volume = self.world.volume
        if self.world.snapshot is None:
            return None
        regions = self.world.geometry.region_count
        cursor = self.rng.randrange(2 * regions)
        if cursor < regions:
            step = plan_merge_step(volume.state, cursor, 2 * REGION).step
        else:
            step = self.next_in_order()
        if step is None:
            return None
        self.world.start(volume.merge_step(step), _nothing)
        return step.extent

    def next_in_order(self) -> MergeStep | None:
        """Do as ``merge_job.MergeJob``, hot chunks first."""
        volume = self.world.volume
        if self.merging is not volume:
            self.merging, self.order = volume, MergeOrder(volume.state)
        step = self.order.next_step(self.rng.choice([REGION, 2 * REGION]))
        if step is None:
            self.order.begin_pass(counts_skipped=False)
        else:
            self.order.take(step)
        return step

    def begin_resync(self) -> Extent | None:
        volume = self.world.volume
        extent = plan_resync_step(volume.state, self.region(), 2 * REGION)
        if extent is not None:
            self.world.start(volume.resync_step(extent), _nothing)
        return extent

    def begin_verify(self) -> Extent | None:
        """Both sides must hold alike what is current and not stale, at any moment (MIR-1)."""
        volume, found = self.world.volume, BitMap64()
        extent = plan_verify_step(volume.state, self.region(), 2 * REGION)

        def done(_: Any) -> None:
            assert not found, f"verify: both sides differ at {list(found)}"

        if extent is not None:
            self.world.start(volume.verify_step(extent, Repair.NONE, found), done)
        return extent

    def begin_flush(self) -> None:
        began = self.oracle.tick()
        self.world.start(self.world.volume.flush(), partial(self.flush_done, began))

    def begin_checkpoint(self) -> None:
        began = self.oracle.tick()
        self.world.start(self.world.volume.checkpoint(), partial(self.flush_done, began))

    def flush_done(self, began: int, error: Any) -> None:
        if error is None:
            self.oracle.flushed(began)

    # --- what the admin does ----------------------------------------------------------------

    def begin_verb(self) -> str:
        roll, world = self.rng.random(), self.world
        if roll < 0.3:
            return self.begin_replace()
        if roll < 0.5:
            return self.begin_accept()
        if roll < 0.6 and "declare" in self.enabled:
            self.faults.losses += 1
            extent = self.extent()
            world.declared.update(range(extent.offset // REGION, -(-extent.end // REGION)))
            world.start(world.volume.declare_lost(extent), _nothing)
            return "declare"
        if world.volume in (self.preparing, self.growing):
            return "nothing"  # a snapshot is taken when it is prepared for
        if roll < 0.8:
            self.prepare_snapshot()
            return "prepare"
        return self.attach()

    def attach(self) -> str:
        """Attach a snapshot taken now, of everything or of some extents; or the older one."""
        if self.world.older is not None and self.rng.random() < 0.4:
            self.world.use_older()
            return "attach the older one"
        is_part = self.rng.random() < 0.4
        parts = [self.extent() for _ in range(self.rng.randrange(1, 4))] if is_part else None
        if not self.world.attach_snapshot(parts):
            return "attach: refused"
        return "attach" if parts is None else f"attach {', '.join(map(str, parts))}"

    def prepare_snapshot(self) -> None:
        self.world.snapshot = self.world.older = None
        self.preparing = self.world.volume
        self.world.start(self.world.volume.prepare_snapshot(), self.prepared)

    def begin_replace(self) -> str:
        world = self.world
        is_busy = world.volume in (self.replacing, self.growing)
        if is_busy or not world.volume.state.is_diskless:
            return "nothing"
        self.replacing = world.volume
        same = world.slot is world.identity and not world.slot.is_away and self.rng.random() < 0.6
        self.faults.offer_disk(same=same)
        world.start(world.volume.replace_primary(same_disk=same), self.replaced)
        return "same" if same else "other"

    def begin_accept(self) -> str:
        extent = self.extent()
        regions = self.world.geometry.regions(extent)
        units = range(regions.start * REGION // UNIT, regions.stop * REGION // UNIT)

        def done(error: Any) -> None:
            if error is None:
                self.oracle.acceptance_kept(units)

        self.world.start(self.world.volume.accept_outdated(extent), done)
        return "accept"

    def replaced(self, _: Any) -> None:
        self.replacing = None

    def prepared(self, _: Any) -> None:
        self.preparing = None

    def accepted(self, regions: BitMap64) -> None:
        for region in regions:
            extent = self.world.extent_of(region)
            for unit in range(extent.offset // UNIT, extent.end // UNIT):
                self.oracle.accepted(unit, self.world.backup.possible(unit))

    # --- what must hold at the end ------------------------------------------------------------

    def settle(self) -> None:
        """Let everything end, then bring both sides together and compare them."""
        world = self.world
        self.drain()
        self.faults.mend_all()
        self.must_succeed(world.volume.flush(), "a flush")
        self.resync_all()
        if world.snapshot is not None and self.rng.random() < 0.5:
            self.merge_all()
        for region in range(world.geometry.region_count):
            self.check_region(region)
        self.resync_all()
        self.compare_legs()

    def drain(self) -> None:
        while self.world.tasks:
            ready = self.world.ready()
            assert ready, "deadlock"
            self.world.complete(*self.rng.choice(ready))
        assert len(self.world.volume.state.locks) == 0
        assert not list(self.world.volume.state.fetches)

    def must_succeed(self, procedure: Any, what: str) -> None:
        outcome: list[RestoreError | None] = []
        began = self.oracle.tick()
        self.world.start(procedure, outcome.append)
        self.drain()
        assert outcome == [None], f"{what} failed with everything mended: {outcome}"
        self.oracle.flushed(began) if what == "a flush" else None

    def resync_all(self) -> None:
        state = self.world.volume.state
        for _ in range(2 * state.geometry.region_count):
            extent = plan_resync_step(state, 0, 4 * REGION)
            if extent is None:
                return
            self.world.start(self.world.volume.resync_step(extent), _nothing)
            self.drain()
        raise AssertionError("resync does not end")

    def merge_all(self) -> None:
        """One pass looks at every region, and at none twice (MRG-4)."""
        state = self.world.volume.state
        self.order, self.merging = MergeOrder(state), self.world.volume
        seen = BitMap64()
        while not state.is_diskless:
            step = self.order.next_step(self.rng.choice([REGION, 2 * REGION]))
            if step is None:
                every = range(state.geometry.region_count)
                left = state.selection.within(state.overwrite_map.fillable_in(every))
                assert not left, f"a merge passed over regions {list(left)}"
                return
            regions = BitMap64(state.geometry.regions(step.extent))
            assert seen.isdisjoint(regions), "a pass looks at a region twice"
            assert regions.isdisjoint(state.overwrite_map.sets.current), "MRG-1"
            seen.update(regions)
            self.order.take(step)
            self.must_succeed(self.world.volume.merge_step(step), "a merge step")

    def check_region(self, region: int) -> None:
        state = self.world.volume.state
        if region in state.overwrite_map.sets.outdated:
            assert self.faults.losses, f"region {region}: outdated, and nothing was ever lost"
            return
        extent = self.world.extent_of(region)
        memory = bytearray(extent.length)
        self.must_succeed(self.world.volume.read(extent, buffers_of(memory)), f"region {region}")
        for start in range(0, extent.length, UNIT):
            self.oracle.check_quiet(
                (extent.offset + start) // UNIT, bytes(memory[start : start + UNIT]), "the volume"
            )

    def compare_legs(self) -> None:
        sets, disk = self.world.volume.state.overwrite_map.sets, self.world.attached
        for region in sets.current:  # MIR-3
            extent = self.world.extent_of(region)
            part = slice(extent.offset, extent.end)
            assert disk is not None
            assert disk.cached[part] == self.world.backup.cached[part], f"legs differ: {region}"


def _nothing(_: Any) -> None:
    """Nobody waits for it."""


def run_seed(seed: int, keep: Sequence[int] | None = None) -> Simulation:
    """Raise AssertionError if *seed* finds a mistake; *keep* leaves out all other steps."""
    simulation = Simulation(seed)
    simulation.run(None if keep is None else frozenset(keep))
    return simulation
