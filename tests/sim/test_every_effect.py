"""SQLite's loop: fixed workloads in which effect n fails, for every n, once and from then on.

And the host's power is cut before effect n, for every n. After each run everything is mended, and
the oracle must be content.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.effects import (
    Effect,
    FindZeros,
    Flush,
    Leg,
    Lock,
    Read,
    Wait,
    Write,
    Zero,
)
from tcmu_restore.core.extent import Extent
from tcmu_restore.core.merge import plan_merge_step
from tcmu_restore.core.mirroring import MirrorPolicy
from tcmu_restore.errors import (
    RestoreError,
    SourceFlushError,
    SourceReadError,
    SourceUnreachableError,
    SourceWriteError,
    StateWriteError,
)

from .run import Simulation
from .stores import UNIT
from .world import REGION, SIZE, Commit

Workload = Callable[["Run"], None]


class Run(Simulation):
    """A simulation that is told what to do; effect number *fatal* is the one that suffers."""

    def __init__(self, policy: MirrorPolicy, fatal: int, kind: str) -> None:
        super().__init__(seed=4)
        self.world.volume.state.policy = self.world.policy = policy
        self.fatal, self.kind = fatal, kind
        self.effects = 0
        self.faults.losses = 1  # a failing effect of the primary is a loss
        self.perform = self.world.perform
        self.world.perform = self.perform_or_fail  # type: ignore[method-assign]

    def perform_or_fail(self, effect: Effect) -> object:
        if isinstance(effect, (Lock, Wait)):
            return self.perform(effect)
        self.effects += 1
        is_now = self.effects == self.fatal and self.kind in ("once", "from then on")
        if is_now or (self.effects > self.fatal and self.kind == "from then on"):
            if isinstance(effect, Commit):
                self.world.commits.pop(0)
            if isinstance(effect, Read) and effect.leg is Leg.PRIMARY:
                first, last = effect.extent.offset // UNIT, effect.extent.end // UNIT
                self.world.slot.was_bad.update(range(first, last))
            raise error_of(effect)
        return self.perform(effect)

    def go(self) -> None:
        """Let everything end; or cut the power when its turn comes."""
        while self.world.tasks:
            if self.kind == "crash" and self.effects >= self.fatal:
                self.kind = "crashed"
                self.faults.crash()
                return
            ready = self.world.ready()
            assert ready, "deadlock"
            self.world.complete(*self.rng.choice(ready))

    def grow(self, units: int) -> None:
        size = SIZE + units * UNIT
        self.growth.sizes.append(size)
        self.world.slot.grow(b"\xdd" * (size - len(self.world.slot.cached)))
        self.growth.begin()
        self.go()

    # --- steps of a workload --------------------------------------------------------------------

    def write(self, unit: int, units: int, *, fua: bool = False, zero: bool = False) -> None:
        extent = Extent(unit * UNIT, units * UNIT)
        if extent.end > self.oracle.size:
            return  # it did not grow
        data = bytes(extent.length) if zero else bytes([65 + unit % 26]) * extent.length
        entries = self.oracle.begin_write(extent.offset, data)
        self.send_write(extent, None if zero else data, entries, fua, 0)
        self.go()

    def read(self, unit: int, units: int) -> None:
        memory = bytearray(units * UNIT)
        if unit * UNIT + len(memory) > self.oracle.size:
            return
        reading = self.oracle.begin_read(unit * UNIT, len(memory))
        procedure = self.world.volume.read(Extent(unit * UNIT, len(memory)), buffers_of(memory))
        self.world.start(procedure, lambda error: self.read_done(reading, memory, error))
        self.go()

    def flush(self) -> None:
        self.begin_flush()
        self.go()

    def checkpoint(self) -> None:
        self.begin_checkpoint()
        self.go()

    def merge(self) -> None:
        self.world.snapshot = self.world.snapshot or bytes(self.world.backup.cached)
        cursor = 0
        while (plan := plan_merge_step(self.world.volume.state, cursor, 2 * REGION)).step:
            cursor = plan.cursor
            self.world.start(self.world.volume.merge_step(plan.step), lambda _: None)
            self.go()

    def resync(self) -> None:
        for _ in range(4):
            if self.begin_resync() is not None:
                self.go()

    def replace(self, *, same: bool) -> None:
        if self.world.volume.state.is_diskless:
            self.faults.offer_disk(same=same and self.world.slot is self.world.identity)
            is_same = self.world.slot is self.world.identity
            self.world.start(self.world.volume.replace_primary(same_disk=is_same), lambda _: None)
            self.go()


def error_of(effect: Effect) -> RestoreError:
    """Return what *effect* fails with in the simulator."""
    match effect:
        case Read(leg) | Write(leg) | Zero(leg) | Flush(leg) if leg is Leg.BACKUP:
            return SourceUnreachableError("backup", "simulated")
        case FindZeros():
            return SourceUnreachableError("snapshot", "simulated")
        case Read():
            return SourceReadError("source", "simulated")
        case Write() | Zero():
            return SourceWriteError("disk", "simulated")
        case Flush():
            return SourceFlushError("disk", "simulated")
        case _:
            return StateWriteError("state", "simulated")


def restore(run: Run) -> None:
    """The main job: reads, writes, a merge, flushes."""
    run.read(3, 9)
    run.write(5, 20)
    run.write(32, 8, fua=True)
    run.merge()
    run.write(40, 3, zero=True)
    run.flush()
    run.checkpoint()
    run.checkpoint()
    run.read(0, SIZE // UNIT)


def outage(run: Run) -> None:
    """The backup goes and returns."""
    run.merge()
    run.write(0, 16)
    run.faults.cut_link()
    run.write(8, 16)
    run.flush()
    run.world.is_linked = True
    run.resync()
    run.write(2, 3, fua=True)
    run.checkpoint()
    run.checkpoint()


def lost_disk(run: Run) -> None:
    """The disk goes, hosts go on, another disk comes and is restored."""
    run.merge()
    run.write(4, 12, fua=True)
    run.faults.disk_vanishes()
    run.write(16, 16)
    run.read(0, 40)
    run.flush()
    run.replace(same=False)
    run.read(0, 24)
    run.write(50, 7)
    run.merge()
    run.flush()
    run.checkpoint()


def disk_given_back(run: Run) -> None:
    """The disk goes with stale regions, and is given back."""
    run.merge()
    run.write(0, 20)
    run.faults.cut_link()
    run.write(24, 20, fua=True)
    run.faults.disk_vanishes()
    run.read(24, 8)
    run.world.is_linked = True
    run.faults.world.slot.is_away = False
    run.write(0, 8)
    run.replace(same=True)
    run.resync()
    run.flush()
    run.checkpoint()


def forgetful_backup(run: Run) -> None:
    """Bytes that only the backup's cache has are gone after a restart: outdated, not old."""
    run.merge()
    run.flush()
    run.faults.cut_link()
    run.write(24, 8, fua=True)
    run.world.is_linked = True
    run.resync()
    run.faults.disk_vanishes()
    run.replace(same=False)
    run.faults.kill()
    run.faults.reset_backup()
    run.read(24, 8)
    run.read(0, 16)
    run.flush()
    run.checkpoint()
    run.checkpoint()


def growth(run: Run) -> None:
    """The volume grows, in the end out of a short last region that is current and written to."""
    run.write(60, 4)
    run.grow(21)
    run.write(62, 6)
    run.write(SIZE // UNIT + 17, 2, fua=True)
    run.read(SIZE // UNIT, 20)
    run.grow(30)
    run.read(SIZE // UNIT, 20)
    run.write(SIZE // UNIT + 19, 2, zero=True)
    run.merge()
    run.flush()
    run.checkpoint()
    run.checkpoint()


WORKLOADS = (restore, outage, lost_disk, disk_given_back, forgetful_backup, growth)


@pytest.mark.sim
@pytest.mark.parametrize("policy", list(MirrorPolicy), ids=lambda policy: policy.value)
@pytest.mark.parametrize("kind", ["once", "from then on", "crash"])
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.__name__)
def test_effect_n_fails(workload: Workload, kind: str, policy: MirrorPolicy) -> None:
    for fatal in count(1):
        run = Run(policy, fatal, kind)
        try:
            workload(run)
            reached = run.effects >= fatal
            run.kind = "over"
            run.settle()
        except AssertionError as failure:
            raise AssertionError(f"effect {fatal} fails {kind}: {failure}") from failure
        if not reached:
            assert fatal > 20, "the workload does too little"
            return
