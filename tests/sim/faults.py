"""Everything that goes wrong in a simulation, and how it is mended."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from tcmu_restore.core.effects import Flush, Leg
from tcmu_restore.errors import SourceReadError

from .oracle import Oracle
from .stores import UNIT, SimStore
from .world import Task, World

FAULTS: Final = (
    "crash",
    "kill",
    "crash_twice",
    "cut_link",
    "cut_backup_power",
    "reset_backup",
    "reset_in_checkpoint",
    "cut_snapshot_link",
    "bad_sector",
    "bad_backup_sector",
    "disk_fails_writes",
    "disk_fails_flushes",
    "disk_vanishes",
    "backup_fails_writes",
    "commits_fail",
    "declare",
)
"""A seed enables about half of them."""


class Faults:
    """Methods named in FAULTS let one fault happen."""

    def __init__(self, world: World, oracle: Oracle, rng: Random) -> None:
        self.world = world
        self.oracle = oracle
        self.rng = rng
        self.losses = 0
        """Losses so far of something on the primary: without one nothing may be outdated."""

    # --- the host -----------------------------------------------------------------------------

    def crash(self) -> None:
        """Power is cut: volatile caches are gone."""
        self._stop(power=True)

    def kill(self) -> None:
        """The process is killed: the page cache and the disk's cache stay until it starts again."""
        self._stop(power=False)

    def crash_twice(self) -> None:
        """Once more while the volume recovers."""
        self._stop(power=True)
        for _ in range(self.rng.randrange(6)):
            ready = self.world.ready()
            if ready:
                self.world.complete(*self.rng.choice(ready))
            elif len(self.world.tasks) < 2:
                self.world.start(self.world.volume.checkpoint(), lambda _: None)
        self._stop(power=True)

    def _stop(self, *, power: bool) -> None:
        self.world.stop_host(power=power)
        if self.world.volume.state.is_diskless:
            self.losses += 1
        self.oracle.crashed(self.world.content(), self.world.unsettled())

    def commits_fail(self) -> None:
        """The state's file system is full."""
        self.world.commits_fail = True

    def unit(self) -> int:
        return self.rng.randrange(self.world.geometry.size // UNIT)

    # --- the backup and the links ---------------------------------------------------------------

    def cut_link(self) -> None:
        if self.world.is_linked:
            self.world.cut_link(power_too=False)

    def cut_backup_power(self) -> None:
        if self.world.is_linked:
            self.world.cut_link(power_too=True)

    def reset_backup(self) -> None:
        if self.world.is_linked:
            self.world.reset_backup()

    def reset_in_checkpoint(self) -> None:
        """The backup is reset while a checkpoint's flush is on its way; perhaps a crash follows."""
        world = self.world
        world.start(world.volume.checkpoint(), lambda _: None)
        task = world.tasks[-1]
        if not self.run_until(task, lambda: _is_flushing_backup(task)):
            return
        self.reset_backup()
        self.run_until(task, lambda: False)
        if self.rng.random() < 0.5:
            self.crash()

    def run_until(self, task: Task, check: Callable[[], bool]) -> bool:
        """Let *task* go on alone until *check* holds; False if it cannot, or has ended."""
        while not check():
            ready = [part for part in self.world.ready() if part[0] is task]
            if not ready:
                return False
            self.world.complete(*ready[0])
        return True

    def cut_snapshot_link(self) -> None:
        self.world.is_snapshot_linked = False

    def bad_backup_sector(self) -> None:
        self.world.backup.bad.add(self.unit())

    def backup_fails_writes(self) -> None:
        self.world.backup.fails_writes = True

    # --- the disk -------------------------------------------------------------------------------

    def bad_sector(self) -> None:
        self.losses += 1
        self.world.slot.spoil(self.unit())

    def disk_fails_writes(self) -> None:
        self.losses += 1
        self.world.slot.fails_writes = True

    def disk_fails_flushes(self) -> None:
        self.losses += 1
        self.world.slot.fails_flushes = True

    def disk_vanishes(self) -> None:
        """The disk is pulled; sometimes udev tells it before an I/O does."""
        self.losses += 1
        self.world.slot.pull(self.rng)
        if self.rng.random() < 0.5:
            self.world.volume.state.fail_primary(SourceReadError("disk", "pulled"))

    def declare(self) -> None:
        """The admin's verb; see ``Simulation.begin_verb``."""

    def offer_disk(self, *, same: bool) -> None:
        """Put a disk in the slot for ``replace_primary``."""
        self.world.end_primary_io()
        if same:
            self.world.slot.power_cut(self.rng)  # closing it may drop what was not flushed
            self.world.slot.is_closed_by_kernel = False
        else:
            filler = bytes([self.rng.randrange(256)])
            self.world.slot = SimStore("disk", filler * self.world.geometry.size)

    # --- mending ----------------------------------------------------------------------------------

    def mend(self) -> None:
        """Mend one thing."""
        world, roll = self.world, self.rng.random()
        if roll < 0.4:
            world.is_linked = True
        elif roll < 0.5:
            world.is_snapshot_linked = True
        elif roll < 0.65:
            world.commits_fail = False
        elif roll < 0.75:
            world.backup.heal()
        elif roll < 0.9:
            world.slot.fails_writes = world.slot.fails_flushes = world.slot.is_away = False
        else:
            world.slot.bad.clear()

    def mend_all(self) -> None:
        """Mend everything but the bad sectors of the disk, which are to be repaired by reads."""
        world = self.world
        world.is_linked = world.is_snapshot_linked = True
        world.commits_fail = False
        world.backup.heal()
        world.slot.fails_writes = world.slot.fails_flushes = world.slot.is_away = False


def _is_flushing_backup(task: Task) -> bool:
    return any(isinstance(part, Flush) and part.leg is Leg.BACKUP for part in task.parts)
