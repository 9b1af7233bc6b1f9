"""Lets the volume of some seeds grow, in the midst of everything else (GROW-1, GROW-2).

Whether, how far and when is drawn from a generator of its own: the other seeds are what they were.
The backup's new bytes are random, and so are the primary's, which are others: whoever takes those
for current reads wrong bytes.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tcmu_restore.errors import RestoreError, WrongStateError

from .stores import UNIT
from .world import REGION, SIZE

if TYPE_CHECKING:
    from .run import Simulation

ONE_IN = 6
"""So many seeds have one that grows."""


class Growth:
    """The admin, who lets the backup grow, then the disk unless that is forgotten, then the volume.

    *steps*: the numbers of the steps in which that is tried; none if the volume does not grow.
    """

    def __init__(self, simulation: Simulation, seed: int, steps: int) -> None:
        self.simulation = simulation
        self.first_size = SIZE
        self.sizes: list[int] = []
        """What the volume is to have, one after the other."""
        self.steps: frozenset[int] = frozenset()
        rng = Random(f"grow {seed}")
        if rng.randrange(ONE_IN) == 0:
            self._draw(rng, steps)

    def _draw(self, rng: Random, steps: int) -> None:
        """Half of the volumes have a shorter last region; half of what they grow to, too."""
        if rng.random() < 0.5:
            self.first_size -= rng.randrange(REGION // UNIT) * UNIT
        size = self.first_size
        for _ in range(rng.randrange(1, 3)):
            size += rng.randrange(1, 4 * REGION // UNIT) * UNIT
            if rng.random() < 0.5:
                size = -(-size // REGION) * REGION
            self.sizes.append(size)
        self.steps = frozenset(rng.randrange(steps) for _ in range(rng.randrange(4, 17)))

    def step(self) -> str:
        """Let the volume grow; sometimes in a race."""
        roll, races = self.simulation.rng.random(), self.simulation.races
        outcome = races.growth_race() if roll < 0.4 else None
        outcome = outcome or self.begin()
        if roll > 0.7:
            races.commit_size_race()
        return outcome

    def begin(self) -> str:
        """Do as ``resize.resize``, which asks for the sizes of backup and disk first."""
        simulation, world = self.simulation, self.simulation.world
        before = world.geometry.size
        size = next((size for size in self.sizes if size > before), None)
        if size is None:
            return "nothing"
        if world.volume in (simulation.growing, simulation.preparing, simulation.replacing):
            return "another command is under way"
        if world.snapshot is None and simulation.rng.random() < 0.5:
            world.attach_snapshot(None)
        self._grow_stores(size)
        refusal = self._refusal(size)
        if refusal:
            return f"to {size}: {refusal}"
        world.detach_snapshot()
        simulation.growing = world.volume
        world.start(world.volume.grow(size), partial(self._done, before, size))
        return f"to {size}"

    def _grow_stores(self, size: int) -> None:
        rng, world = self.simulation.rng, self.simulation.world
        more = size - len(world.backup.cached)
        if more > 0:
            content = rng.randbytes(more)
            world.backup.grow(content)
            self.simulation.oracle.backup_grew(content)
        more = size - len(world.slot.cached)
        if more > 0 and not world.slot.is_dead and rng.random() < 0.8:
            world.slot.grow(rng.randbytes(more))

    def _refusal(self, size: int) -> str:
        world = self.simulation.world
        if not world.is_linked:
            return "the backup does not answer"
        if len(world.slot.cached) < size and not world.volume.state.is_diskless:
            return "the disk is too small"
        return ""

    def _done(self, before: int, size: int, error: RestoreError | None) -> None:
        """The volume has the new size for good, or the old one."""
        simulation, world = self.simulation, self.simulation.world
        simulation.growing = None
        if error is None:
            simulation.oracle.size = size  # hosts are told
        assert world.geometry.size == (before if error else size)
        assert world.volume.state.is_diskless or not isinstance(error, WrongStateError)
        if world.older is not None and simulation.rng.random() < 0.5:
            world.use_older()
