"""One simulated host, its disks, its backup and its links; one seed decides everything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, assert_never

from pyroaring import BitMap64

from tcmu_restore.core.effects import (
    AdoptPrimary,
    AllOf,
    CommitIntent,
    CommitMap,
    CommitSize,
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
from tcmu_restore.core.extent import Extent
from tcmu_restore.core.extent_lock import Held
from tcmu_restore.core.geometry import Geometry
from tcmu_restore.core.heat import Heat
from tcmu_restore.core.intent_log import IntentLog
from tcmu_restore.core.mirroring import MirrorPolicy
from tcmu_restore.core.overwrite_map import OverwriteMap
from tcmu_restore.core.region_sets import CHUNK_REGIONS, RegionSets
from tcmu_restore.core.selection import select
from tcmu_restore.core.state import VolumeState
from tcmu_restore.core.volume import Volume
from tcmu_restore.errors import (
    RestoreError,
    SourceReadError,
    SourceUnreachableError,
    StateWriteError,
)

from .stores import UNIT, SimStore

REGION = 4096
REGIONS = 8
SIZE = REGIONS * REGION

Commit = CommitMap | CommitIntent | AdoptPrimary | CommitSize
Snapshot = tuple[bytes, list[Extent] | None]
"""What it holds, and what of that it covers; None: everything."""


class Task:
    """A procedure under way, and the parts of its effect that are still in flight."""

    def __init__(self, procedure: Procedure[None], done: Callable[[Any], None]) -> None:
        self.procedure = procedure
        self.done = done
        self.held: list[Held] = []
        self.effect: Effect | None = None
        self.parts: list[Effect | None] = []
        self.results: list[Any] = []


class SimMap(OverwriteMap):
    """Tells of every loss, and which older bytes the admin accepts."""

    on_accept: Callable[[BitMap64], None] = staticmethod(lambda _: None)
    on_lost: Callable[[BitMap64], None] = staticmethod(lambda _: None)

    def mark_lost(self, regions: BitMap64) -> None:
        self.on_lost(regions & self.sets.current)
        super().mark_lost(regions)

    def accept_outdated(self, regions: BitMap64) -> int:
        self.on_accept(regions & self.sets.outdated)
        return super().accept_outdated(regions)


def heat_fact(rng: Random) -> dict[str, Any]:
    """Return counts as an earlier run may have kept them: some chunks are hot."""
    flat: list[int] = []
    for chunk in range(REGIONS // 2):
        flat += (1 if chunk else 0, rng.choice([0, 1, 50, 60]))
    return {"chunk_size": 2 * REGION, "accesses": 20, "counts": flat}


class World:
    """Stores, links and the durable state; survives crashes, unlike the volume."""

    def __init__(self, rng: Random, size: int = SIZE) -> None:
        self.rng = rng
        self.size = size
        """Bytes of the volume, as the state file has it."""
        content = rng.randbytes(size)
        self.speeds = Random(content[:8])
        """Which source is the faster one; apart from *rng*, or each old seed were another one."""
        self.slot = SimStore("disk", bytes([0xEE]) * size)
        """The disk in the host's slot."""
        self.recorded = self.slot
        """The disk whose identity the state file has."""
        self.identity = self.slot
        """The disk whose identity the running volume knows."""
        self.attached: SimStore | None = self.slot
        """The disk that the running volume uses."""
        self.backup = SimStore("backup", content)
        self.snapshot: bytes | None = None
        self.selected: list[Extent] | None = None
        """What the snapshot covers; it holds nonsense elsewhere. None: everything."""
        self.older: Snapshot | None = None
        """A snapshot that was detached so that the volume could grow."""
        self.epoch = 0
        self.is_linked = self.is_snapshot_linked = True
        self.commits_fail = False
        self.landed: tuple[Commit, SimStore] | None = None
        """A commit that failed and is found all the same, if no later one takes its place; and the
        disk that was in the slot."""
        self.sets = RegionSets.empty()
        self.zones: set[int] = set()
        self.is_failed = False
        self.tasks: list[Task] = []
        self.commits: list[Commit] = []
        self.declared: set[int] = set()
        """Regions that the admin declared lost at some time."""
        self.policy = rng.choice(list(MirrorPolicy))
        self.backlog_max = rng.choice([REGION, 1 << 20])
        self.armed_max = rng.choice([1, 2, 4])
        self.on_accept: Callable[[BitMap64], None] = lambda _: None
        self.heat_fact = heat_fact(Random(content))
        self.volume = self.open_volume()

    @property
    def geometry(self) -> Geometry:
        """The volume's, as it is now."""
        return self.volume.state.geometry

    def extent_of(self, region: int) -> Extent:
        """The bytes of one region; the last one may be shorter."""
        return self.geometry.extent_of(range(region, region + 1))

    def open_volume(self) -> Volume:
        """Do as ``opening.open_engine``."""
        geometry = Geometry(self.size, 512, REGION, 2 * REGION)
        overwrite_map = SimMap(geometry.region_count, self.sets.within(range(CHUNK_REGIONS)))
        overwrite_map.on_accept = lambda regions: self.on_accept(regions)  # noqa: PLW0108 - set later
        state = VolumeState(
            geometry,
            overwrite_map,
            IntentLog(
                self.zones, zone_count=geometry.zone_count, armed_max=self.armed_max, group_max=2
            ),
            fetch_ahead_max=2 * REGION,
            populate_backlog_max=self.backlog_max,
            policy=self.policy,
            mirror_backlog_max=self.backlog_max,
        )
        state.selection = select(geometry, self.selected)
        state.first_source = lambda _: self.speeds.choice([Leg.BACKUP, Leg.SNAPSHOT])
        overwrite_map.on_lost = lambda regions: self.check_lost(state, regions)
        state.heat = Heat(geometry, chunk_size=2 * REGION)
        state.heat.restore(self.heat_fact)
        volume = Volume(state)
        volume.recover()
        self.identity, self.attached = self.recorded, None
        try:
            if self.is_failed or self.slot is not self.recorded:
                raise SourceReadError("disk", "not there")
            self.slot.reopen(self.rng)
            self.attached = self.slot
        except RestoreError as error:
            state.fail_primary(error)
        return volume

    def check_lost(self, state: VolumeState, regions: BitMap64) -> None:
        """Only what could not be read, or was declared, is lost of a disk in order (LOSS-1)."""
        assert state.is_diskless or self.attached is not None
        if self.attached is None or self.attached.is_dead or state.is_diskless:
            return
        bad = {unit * UNIT // REGION for unit in self.attached.was_bad}
        assert set(regions) <= bad | self.declared, "a region was lost without a reason"

    def attach_snapshot(self, selected: list[Extent] | None) -> bool:
        """Attach a snapshot of what the backup holds now; of *selected* bytes only, or of all.

        Do as ``snapshot_verbs.attach``: one of another size than the volume's is refused (MRG-2).
        """
        content = bytes(self.backup.cached)
        if len(content) != self.geometry.size:
            return False
        self.use_snapshot(content, selected)
        return True

    def use_snapshot(self, content: bytes, selected: list[Extent] | None) -> None:
        """Let *content* answer for *selected*; elsewhere, and beyond its end, it is nonsense."""
        self.selected = selected
        self.snapshot = content
        if selected is not None:
            nonsense = bytearray(self.rng.randbytes(self.geometry.size))
            for extent in selected:
                nonsense[extent.offset : extent.end] = content[extent.offset : extent.end]
            self.snapshot = bytes(nonsense)
        self.volume.state.selection = select(self.geometry, selected)

    def use_older(self) -> None:
        """Attach the snapshot again that was detached: it covers what the volume was then."""
        assert self.older is not None
        content, selected = self.older
        self.use_snapshot(content, selected or [Extent(0, len(content))])

    def detach_snapshot(self) -> None:
        """Do as ``VolumeEngine.drop_snapshot``."""
        if self.snapshot is not None:
            self.older = self.snapshot, self.selected
        self.snapshot = self.selected = None
        self.volume.state.selection = select(self.geometry, None)

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
            if isinstance(effect, Commit):
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
        return [
            (task, index)
            for task in self.tasks
            for index, part in enumerate(task.parts)
            if part is not None and self.may_complete(task, part)
        ]

    def may_complete(self, task: Task, part: Effect) -> bool:
        if isinstance(part, Commit):
            return part is self.commits[0]  # in the order in which they were asked for
        if isinstance(part, Lock):
            return task.held[-1].granted.is_open
        if isinstance(part, Wait):
            return part.gate.is_open
        return True

    def complete(self, task: Task, index: int) -> None:
        """Let one part of an effect take place and answer."""
        part = task.parts[index]
        assert part is not None
        task.parts[index] = None
        try:
            task.results[index] = self.perform(part)
        except RestoreError as error:
            task.results[index] = error
        if all(left is None for left in task.parts):
            self.finish(task)

    def finish(self, task: Task) -> None:
        if isinstance(task.effect, AllOf):
            self.advance(task, tuple(task.results), None)
        elif isinstance(task.results[0], RestoreError):
            self.advance(task, None, task.results[0])
        else:
            self.advance(task, task.results[0], None)

    # --- effects ------------------------------------------------------------------------

    def perform(self, effect: Effect) -> Any:  # noqa: PLR0912 - one branch an effect
        match effect:
            case Read(leg, extent, buffers):
                data = self.read(leg, extent)
                for part in buffers:
                    part[:], data = data[: part.nbytes], data[part.nbytes :]
            case Write(leg, extent, buffers):
                return self.write(leg, extent.offset, b"".join(buffers))
            case Zero(leg, extent):
                return self.write(leg, extent.offset, bytes(extent.length))
            case Flush(leg):
                self.store(leg).flush(self.rng)
                return self.epoch if leg is Leg.BACKUP else 0
            case CommitMap() | CommitIntent() | AdoptPrimary() | CommitSize():
                self.commits.pop(0)
                if self.commits_fail:
                    self.landed = (effect, self.slot) if self.rng.random() < 0.3 else None
                    raise StateWriteError("state", "simulated")
                self.landed = None
                self.commit(effect, self.slot)
                if isinstance(effect, AdoptPrimary):
                    self.attached = self.identity = self.slot
            case FindZeros(extent):
                return self.find_zeros(extent)
            case Lock() | Wait() | Spawn() | AllOf():
                pass
            case _:
                assert_never(effect)
        return None

    def commit(self, effect: Commit, slot: SimStore) -> None:
        """Keep *effect*, begun when the disk *slot* was there."""
        if isinstance(effect, CommitIntent):
            self.zones = (self.zones | set(effect.armed)) - set(effect.disarmed)
            return
        if isinstance(effect, CommitSize):
            self.size = effect.size
            return
        if effect.image.chunks:
            self.sets = effect.image.chunks[0]
        if isinstance(effect, AdoptPrimary):
            self.is_failed, self.recorded = False, slot
        else:
            self.is_failed = effect.diskless

    def read(self, leg: Leg, extent: Extent) -> bytes:
        if leg is not Leg.SNAPSHOT:
            return self.store(leg).read(extent)
        if self.snapshot is None or not self.is_snapshot_linked:
            raise SourceUnreachableError("snapshot", "none")
        return self.snapshot[extent.offset : extent.end]

    def find_zeros(self, extent: Extent) -> list[Extent]:
        if self.snapshot is None:
            return []
        found = []
        for start in range(extent.offset, extent.end, UNIT):
            if not any(self.snapshot[start : start + UNIT]):
                found.append(Extent(start, UNIT))
        return found

    def write(self, leg: Leg, offset: int, data: bytes) -> int:
        self.store(leg).write(offset, data, self.rng)
        return self.epoch if leg is Leg.BACKUP else 0

    def store(self, leg: Leg) -> SimStore:
        if leg is Leg.PRIMARY:
            if self.attached is None:
                raise SourceUnreachableError("primary", "diskless")
            return self.attached
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
                        self.try_to_perform(part)
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

    def reset_backup(self) -> None:
        """It forgets what it had not flushed, and says so; commands in flight come after that."""
        self.backup.power_cut(self.rng)
        self.epoch += 1
        self.volume.backup_epoch_began(self.epoch)

    def end_primary_io(self) -> None:
        """Closing a disk waits for what is in flight on it. The volume is diskless."""
        found = [
            (task, index)
            for task in self.tasks
            for index, part in enumerate(task.parts)
            if getattr(part, "leg", None) is Leg.PRIMARY
        ]
        for task, index in found:
            self.complete(task, index)

    def try_to_perform(self, part: Effect) -> None:
        with suppress(RestoreError):
            self.perform(part)

    def stop_host(self, *, power: bool) -> None:
        """The host dies, or the process: what is in flight may happen or not, in its order."""
        for task in self.tasks:
            for part in task.parts:
                if isinstance(part, (Write, Zero)) and self.rng.random() < 0.5:
                    self.try_to_perform(part)
        begun = self.commits[: self.rng.randrange(len(self.commits) + 1)]
        done = [(commit, self.slot) for commit in begun]
        if not done and self.landed is not None:
            done = [self.landed]
        self.landed = None
        for commit, slot in done:
            self.commit(commit, slot)
        self.commits.clear()
        for task in list(self.tasks):
            task.procedure.close()
        self.tasks.clear()
        if power:
            self.slot.power_cut(self.rng)
        self.epoch += 1
        self.volume = self.open_volume()

    def lost(self) -> BitMap64:
        return self.volume.state.overwrite_map.lost_in(range(self.geometry.region_count))

    def content(self) -> list[bytes | None]:
        """What a reader would see now, unit by unit, read by hand through the map."""
        sets = self.volume.state.overwrite_map.sets
        found: list[bytes | None] = []
        for unit in range(self.geometry.size // UNIT):
            region, start = unit * UNIT // REGION, unit * UNIT
            store: SimStore | None = self.backup
            if region in sets.current:
                units = range(region * REGION // UNIT, (region + 1) * REGION // UNIT)
                assert self.attached is not None
                if self.attached.bad.isdisjoint(units):
                    store = self.attached
                elif region in sets.stale:
                    store = None
            elif region in sets.outdated:
                store = None
            found.append(bytes(store.cached[start : start + UNIT]) if store else None)
        return found

    def unsettled(self) -> set[int]:
        """Units of regions served by the backup whose newest bytes it has not flushed."""
        units: set[int] = set()
        for offset, data in self.backup.unflushed:
            units.update(range(offset // UNIT, (offset + len(data)) // UNIT))
        lost = self.lost()
        bad = {unit * UNIT // REGION for unit in self.slot.bad}
        return {unit for unit in units if unit * UNIT // REGION in lost | BitMap64(bad)}
