"""One simulated host, its disk, its backup and its links; one seed decides everything."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from pyroaring import BitMap64

from tcmu_restore.core.effects import (
    AllOf,
    CommitIntent,
    CommitMap,
    Effect,
    FindZeros,
    Flush,
    Leg,
    Lock,
    Procedure,
    Read,
    Spawn,
    Wait,
    Write,
    Zero,
)
from tcmu_restore.core.extent_lock import Held
from tcmu_restore.core.gate import Gate
from tcmu_restore.core.geometry import Geometry
from tcmu_restore.core.intent_log import IntentLog
from tcmu_restore.core.overwrite_map import CHUNK_REGIONS, OverwriteMap, RegionSets
from tcmu_restore.core.state import VolumeState
from tcmu_restore.core.volume import Volume
from tcmu_restore.errors import RestoreError, SourceUnreachableError

from .stores import UNIT, SimStore

REGION = 4096
REGIONS = 8
SIZE = REGIONS * REGION


class Task:
    """A procedure under way, and the parts of its effect that are still in flight."""

    def __init__(self, procedure: Procedure[None], done: Callable[[Any], None]) -> None:
        self.procedure = procedure
        self.done = done
        self.held: list[Held] = []
        self.effect: Effect | None = None
        self.parts: list[Effect | None] = []
        self.results: list[Any] = []


class World:
    """Stores, links and the durable state; survives crashes, unlike the volume."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        content = rng.randbytes(SIZE)
        self.primary = SimStore(bytes([0xEE]) * SIZE)
        self.backup = SimStore(content)
        self.snapshot: bytes | None = None
        self.epoch = 0
        self.is_linked = True
        self.chunk = RegionSets.empty()
        self.zones: set[int] = set()
        self.tasks: list[Task] = []
        self.commits: list[CommitMap | CommitIntent] = []
        self.volume = self.open_volume()

    def open_volume(self) -> Volume:
        geometry = Geometry(SIZE, 512, REGION, 2 * REGION)
        sets = self.chunk.within(range(CHUNK_REGIONS))
        state = VolumeState(
            geometry,
            OverwriteMap(REGIONS, sets),
            IntentLog(self.zones),
            fetch_ahead_max=2 * REGION,
            populate_backlog_max=self.rng.choice([REGION, 1 << 20]),
        )
        volume = Volume(state)
        volume.recover()
        return volume

    # --- tasks --------------------------------------------------------------------------

    def start(self, procedure: Procedure[None], done: Callable[[Any], None]) -> None:
        task = Task(procedure, done)
        self.tasks.append(task)
        self.advance(task, None, None)

    def advance(self, task: Task, result: Any, error: RestoreError | None) -> None:
        while True:
            try:
                effect = task.procedure.throw(error) if error else task.procedure.send(result)
            except StopIteration:
                return self.end(task, None)
            except RestoreError as failure:
                return self.end(task, failure)
            result, error = None, None
            if isinstance(effect, Spawn):
                self.start(effect.procedure, lambda _: None)
                continue
            task.effect = effect
            task.parts = list(effect.effects) if isinstance(effect, AllOf) else [effect]
            task.results = [None] * len(task.parts)
            if isinstance(effect, (CommitMap, CommitIntent)):
                self.commits.append(effect)
            if isinstance(effect, Lock):
                task.held.append(self.volume.state.locks.request(effect.extent, task))
            if task.parts:
                return None
            result = ()

    def end(self, task: Task, outcome: RestoreError | None) -> None:
        self.tasks.remove(task)
        for held in task.held:
            self.volume.state.locks.release(held)
        task.done(outcome)

    def ready(self) -> list[tuple[Task, int]]:
        """Every part of an effect that may complete now."""
        found = []
        for task in self.tasks:
            for index, part in enumerate(task.parts):
                if part is None:
                    continue
                if isinstance(part, (CommitMap, CommitIntent)) and part is not self.commits[0]:
                    continue  # in the order in which they were asked for
                gate: Gate | None = None
                if isinstance(part, Lock):
                    gate = task.held[-1].granted
                elif isinstance(part, Wait):
                    gate = part.gate
                if gate is None or gate.is_open:
                    found.append((task, index))
        return found

    def complete(self, task: Task, index: int) -> None:
        """Let one part of an effect take place and answer."""
        part = task.parts[index]
        assert part is not None
        task.parts[index] = None
        try:
            task.results[index] = self.perform(part)
        except RestoreError as error:
            task.results[index] = error
        if any(left is not None for left in task.parts):
            return
        if isinstance(task.effect, AllOf):
            self.advance(task, tuple(task.results), None)
        elif isinstance(task.results[0], RestoreError):
            self.advance(task, None, task.results[0])
        else:
            self.advance(task, task.results[0], None)

    # --- effects ------------------------------------------------------------------------

    def perform(self, effect: Effect) -> Any:
        match effect:
            case Read(leg, extent, buffers):
                data = self.read(leg)[extent.offset : extent.end]
                for part in buffers:
                    part[:], data = data[: part.nbytes], data[part.nbytes :]
                return None
            case Write(leg, extent, buffers):
                self.store(leg).write(extent.offset, b"".join(buffers))
                return self.epoch if leg is Leg.BACKUP else 0
            case Zero(leg, extent):
                self.store(leg).write(extent.offset, bytes(extent.length))
                return self.epoch if leg is Leg.BACKUP else 0
            case Flush(leg):
                self.store(leg).flush()
                return self.epoch if leg is Leg.BACKUP else 0
            case CommitMap(image):
                self.commits.pop(0)
                if image.chunks:
                    self.chunk = image.chunks[0]
            case CommitIntent(armed, disarmed):
                self.commits.pop(0)
                self.zones = (self.zones | set(armed)) - set(disarmed)
            case FindZeros():
                return []
        return None

    def read(self, leg: Leg) -> bytes:
        if leg is not Leg.SNAPSHOT:
            return bytes(self.store(leg).cached)
        if self.snapshot is None:
            raise SourceUnreachableError("snapshot", "none")
        return self.snapshot

    def store(self, leg: Leg) -> SimStore:
        if leg is Leg.PRIMARY:
            return self.primary
        if not self.is_linked:
            raise SourceUnreachableError("backup", "cut")
        return self.backup

    # --- faults -------------------------------------------------------------------------

    def cut_link(self, *, power_too: bool) -> None:
        """The session is lost: each command in flight may have been carried out or not."""
        for task in list(self.tasks):
            for index, part in enumerate(task.parts):
                if getattr(part, "leg", None) is Leg.BACKUP and part is not None:
                    if self.rng.random() < 0.5:
                        self.perform(part)
                    task.parts[index] = None
                    task.results[index] = SourceUnreachableError("backup", "session lost")
        if power_too:
            self.backup.power_cut(self.rng)
        self.is_linked = False
        self.epoch += 1
        self.volume.backup_epoch_began(self.epoch)
        for task in list(self.tasks):
            if task in self.tasks and task.parts and all(p is None for p in task.parts):
                self.finish(task)

    def finish(self, task: Task) -> None:
        if isinstance(task.effect, AllOf):
            self.advance(task, tuple(task.results), None)
        else:
            self.advance(task, None, task.results[0])

    def power_cut(self) -> None:
        """The host dies: what is in flight may happen or not; commits only in their order."""
        for task in self.tasks:
            for part in task.parts:
                if isinstance(part, (Write, Zero)) and self.rng.random() < 0.5:
                    try:
                        self.perform(part)
                    except RestoreError:
                        continue
        for commit in self.commits[: self.rng.randrange(len(self.commits) + 1)]:
            self.perform(commit)
        self.commits.clear()
        for task in list(self.tasks):
            task.procedure.close()
        self.tasks.clear()
        self.primary.power_cut(self.rng)
        self.epoch += 1
        self.volume = self.open_volume()

    def content(self) -> bytes:
        """What a reader would see now, read by hand through the map."""
        out = bytearray()
        sets = self.volume.state.overwrite_map.sets
        for region in range(REGIONS):
            store = self.primary if region in sets.current else self.backup
            out += store.cached[region * REGION : (region + 1) * REGION]
        return bytes(out)

    def unsettled(self) -> set[int]:
        """Units of lost regions whose newest bytes the backup has not flushed."""
        units: set[int] = set()
        for offset, data in self.backup.unflushed:
            units.update(range(offset // UNIT, (offset + len(data)) // UNIT))
        lost = self.lost()
        return {unit for unit in units if unit * UNIT // REGION in lost}

    def lost(self) -> BitMap64:
        return self.volume.state.overwrite_map.lost_in(range(REGIONS))
