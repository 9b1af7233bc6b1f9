"""Races that chance alone seldom makes: a few steps in one go, if their faults are enabled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tcmu_restore.core.effects import CommitSize
from tcmu_restore.core.extent import Extent

from .stores import UNIT
from .world import REGION

if TYPE_CHECKING:
    from .run import Simulation


class Races:
    """Each method returns the region that it is about, or None if nothing was done."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.world = simulation.world
        self.faults = simulation.faults
        self.rng = simulation.rng
        self.enabled = set(simulation.enabled)

    def bad_sector_race(self) -> int | None:
        """A read finds a bad sector while a write mends it."""
        region = self._current_region() if "bad_sector" in self.enabled else None
        if region is None:
            return None
        self._spoil(region)
        stop = min(region + 4, self.world.geometry.region_count)
        self.simulation.read_extent(self.world.geometry.extent_of(range(region, stop)))
        self.simulation.write_extent(self.world.extent_of(region))
        return region

    def edge_race(self) -> int | None:
        """The backup forgets the edge of a write after it was fetched, before the write ends.

        The kill makes the region lost again while the backup has its bytes in the cache only.
        """
        lost = [one for one in self.world.lost() if self.world.extent_of(one).length > UNIT]
        if "reset_backup" not in self.enabled or not lost:
            return None
        region = self.rng.choice(lost)
        self._write_alone(region)
        self.faults.kill()
        before = len(self.world.tasks)
        self.simulation.write_extent(Extent(region * REGION + UNIT, UNIT))
        task = self.world.tasks[-1] if len(self.world.tasks) > before else None
        if task is not None and self.faults.run_until(task, lambda: len(task.parts) > 1):
            self.faults.reset_backup()
        return region

    def recovery_race(self) -> int | None:
        """Bytes that no commit tells of outlive a kill, reach the backup, and are lost on the disk.

        A snapshot that is older than they are must not answer for them.
        """
        region = self._current_region()
        if not {"kill", "bad_sector", "cut_link"} <= self.enabled or region is None:
            return None
        self._lose_and_fetch(region)
        self._flush_alone()
        self._write_alone(region)
        self.faults.kill()
        self._flush_alone()  # settles what recovery counts as unflushed
        self._resync_alone(region)
        self._flush_alone()
        self._spoil(region)
        self.faults.cut_link()
        self.simulation.read_extent(self.world.extent_of(region))
        return region

    def outdated_race(self) -> int | None:
        """The disk loses what the backup has not flushed; the backup is reset in a checkpoint."""
        region = self._current_region()
        if not {"bad_sector", "reset_in_checkpoint"} <= self.enabled or region is None:
            return None
        self.faults.cut_link()
        self._write_alone(region)
        self._flush_alone()
        self.world.is_linked = True
        self._resync_alone(region)
        self._spoil(region)
        self.simulation.read_extent(self.world.extent_of(region))
        for _ in range(12):
            ready = self.world.ready()
            if not ready or region in self.world.lost():
                break
            self.world.complete(*self.rng.choice(ready))
        self.faults.reset_in_checkpoint()
        return region

    def attach_race(self) -> str | None:
        """Another snapshot, of other extents, is attached while a merge step is under way."""
        world, simulation = self.world, self.simulation
        if world.volume in (simulation.preparing, simulation.growing):
            return None
        simulation.attach()
        before = len(world.tasks)
        extent = simulation.begin_merge()
        if len(world.tasks) > before:
            self.faults.run_until(world.tasks[-1], lambda: self.rng.random() < 0.5)
            return f"{extent}, then {simulation.attach()}"
        return None

    def growth_race(self) -> str | None:
        """The volume grows while its last region is lost, of which perhaps no commit tells.

        Whether the host stops then, or the disk is pulled and given back: what the disk has of
        that region counts again, and must be whole, with the bytes that it lacked before.
        """
        ends = self.enabled & {"crash", "kill", "disk_vanishes"}
        if not ends or not {"bad_sector", "cut_link"} <= self.enabled:
            return None
        region = self.world.geometry.region_count - 1
        self._write_alone(region)
        self._flush_alone()
        if self.rng.random() < 0.5:
            self._write_alone(region)
        self._lose_alone(region)
        outcome = self.simulation.growth.begin()
        self._let_go_on()
        self.world.slot.bad.clear()
        end = self.rng.choice(sorted(ends))
        getattr(self.faults, end)()
        return f"{outcome}, then {end} {self._give_back()}"

    def commit_size_race(self) -> None:
        """A read of the last region begins while the new size is being committed."""
        world = self.world
        self._let_go_on(until=lambda: any(isinstance(one, CommitSize) for one in world.commits))
        if world.commits:
            self.simulation.read_extent(self.world.extent_of(world.geometry.region_count - 1))

    def _lose_alone(self, region: int) -> None:
        """Let a read find that *region* is lost while the backup is away."""
        self.faults.cut_link()
        self._spoil(region)
        self.simulation.read_extent(self.world.extent_of(region))
        self._let_go_on()
        self.world.is_linked = True

    def _give_back(self) -> str:
        """Offer a disk that was pulled, or another one."""
        self._flush_alone()  # finds it, if nobody told
        self.world.slot.is_away = False
        return f"replace {self.simulation.begin_replace()}"

    def _lose_and_fetch(self, region: int) -> None:
        """Lose *region*, take a snapshot meanwhile, and fetch it from the backup."""
        self._let_go_on()
        self._resync_alone(region)
        self._flush_alone()
        self._lose_alone(region)
        if self.simulation.preparing is not self.world.volume:
            self.simulation.prepare_snapshot()
        self._let_go_on()
        self.world.attach_snapshot(None)
        self.simulation.read_extent(self.world.extent_of(region))
        self._let_go_on()

    def _let_go_on(self, until: Callable[[], bool] = lambda: False) -> None:
        while not until() and (ready := self.world.ready()):
            self.world.complete(*self.rng.choice(ready))

    def _current_region(self) -> int | None:
        current = list(self.world.volume.state.overwrite_map.sets.current)
        return self.rng.choice(current) if current else None

    def _spoil(self, region: int) -> None:
        self.faults.losses += 1
        self.world.slot.spoil(region * REGION // UNIT)

    def _write_alone(self, region: int) -> None:
        self._run_alone(lambda: self.simulation.write_extent(self.world.extent_of(region)))

    def _flush_alone(self) -> None:
        self._run_alone(self.simulation.begin_flush)

    def _resync_alone(self, region: int) -> None:
        volume = self.world.volume
        if region in volume.state.overwrite_map.sets.stale:
            step = volume.resync_step(self.world.extent_of(region))
            self._run_alone(lambda: self.world.start(step, lambda _: None))

    def _run_alone(self, begin: Callable[[], None]) -> None:
        """Let what *begin* starts go on as far as it can, and nothing else."""
        before = len(self.world.tasks)
        begin()
        if len(self.world.tasks) > before:
            self.faults.run_until(self.world.tasks[-1], lambda: False)
