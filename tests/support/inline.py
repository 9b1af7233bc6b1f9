"""The inline driver: runs one procedure to its end on plain byte arrays, nothing else running."""

from __future__ import annotations

from typing import Any, assert_never

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
from tcmu_restore.core.gate import Gate
from tcmu_restore.core.geometry import Geometry
from tcmu_restore.core.intent_log import IntentLog
from tcmu_restore.core.overwrite_map import OverwriteMap
from tcmu_restore.core.region_sets import MapImage
from tcmu_restore.core.state import VolumeState
from tcmu_restore.core.volume import Volume
from tcmu_restore.errors import RestoreError

REGION = 4096


def new_volume(
    regions: int, *, tail: int = 0, zone_size: int = 4 * REGION, fetch_ahead_max: int = 0
) -> Volume:
    """A volume of some regions and *tail* bytes more, everything lost."""
    geometry = Geometry(regions * REGION + tail, 512, REGION, zone_size)
    state = VolumeState(
        geometry,
        OverwriteMap(geometry.region_count),
        IntentLog(zone_count=geometry.zone_count),
        fetch_ahead_max=fetch_ahead_max,
        populate_backlog_max=1 << 30,
    )
    return Volume(state)


class _Task:
    def __init__(self, procedure: Procedure[None]) -> None:
        self.procedure = procedure
        self.held: list[Held] = []
        self.blocked_on: Gate | None = None
        self.result: Any = None
        self.error: BaseException | None = None


class InlineDriver:
    """Performs effects at once; a spawned procedure runs while another waits, or at the end."""

    def __init__(self, volume: Volume, legs: dict[Leg, bytearray]) -> None:
        self.volume = volume
        self.legs = legs
        self.log: list[Effect] = []
        self.failures: dict[tuple[type, Leg], RestoreError] = {}
        self.committed: list[MapImage] = []
        self.zones: set[int] = set()
        self.size = volume.state.geometry.size
        """As a commit has it."""
        self.zeros: list[Extent] = []
        self.tasks: list[_Task] = []

    def run(self, procedure: Procedure[None]) -> None:
        """Run *procedure* and whatever it spawns to the end; raise what it fails with."""
        main = _Task(procedure)
        self.tasks.append(main)
        failure: BaseException | None = None
        while self.tasks:
            ready = [t for t in self.tasks if t.blocked_on is None or t.blocked_on.is_open]
            assert ready, "everybody waits for somebody"
            error = self._advance(ready[0])
            if ready[0] is main and error is not None:
                failure = error
        if failure is not None:
            raise failure

    def _advance(self, task: _Task) -> BaseException | None:
        """Run *task* until it blocks or ends; return what it failed with."""
        task.blocked_on = None
        while True:
            try:
                if task.error is not None:
                    effect = task.procedure.throw(task.error)
                else:
                    effect = task.procedure.send(task.result)
            except StopIteration:
                return self._end(task, None)
            except BaseException as failure:  # noqa: BLE001 - raised by run
                return self._end(task, failure)
            task.result, task.error = None, None
            if self._block(task, effect):
                return None

    def _end(self, task: _Task, error: BaseException | None) -> BaseException | None:
        self.tasks.remove(task)
        for held in task.held:
            self.volume.state.locks.release(held)
        if error is not None and not isinstance(error, RestoreError):
            raise error
        return error

    def _block(self, task: _Task, effect: Effect) -> bool:
        gates: list[Gate] = []
        if isinstance(effect, Lock):
            task.held.append(self.volume.state.locks.request(effect.extent, task))
            gates = [task.held[-1].granted]
        elif isinstance(effect, Wait):
            gates = [effect.gate]
        else:
            try:
                task.result = self.perform(effect)
            except RestoreError as failure:
                task.error = failure
            if isinstance(effect, AllOf):
                gates = [one.gate for one in effect.effects if isinstance(one, Wait)]
        closed = [gate for gate in gates if not gate.is_open]
        if not closed:
            return False
        task.blocked_on = _all_open(closed)
        return True

    def perform(self, effect: Effect) -> Any:  # noqa: PLR0912 - one branch an effect
        self.log.append(effect)
        failure = self.failures.get((type(effect), getattr(effect, "leg", Leg.SNAPSHOT)))
        if failure is not None:
            raise failure
        match effect:
            case Read(leg, extent, buffers):
                offset = extent.offset
                for part in buffers:
                    part[:] = self.legs[leg][offset : offset + part.nbytes]
                    offset += part.nbytes
                assert offset == extent.end
            case Write(leg, extent, buffers):
                data = b"".join(buffers)
                assert len(data) == extent.length
                self.legs[leg][extent.offset : extent.end] = data
                return 0
            case Zero(leg, extent):
                self.legs[leg][extent.offset : extent.end] = bytes(extent.length)
                return 0
            case Flush():
                return 0
            case FindZeros(extent):
                return [both for zero in self.zeros if (both := zero.intersection(extent))]
            case CommitMap(image) | AdoptPrimary(image):
                self.committed.append(image)
            case CommitSize(size):
                self.size = size
            case CommitIntent(armed, disarmed):
                self.zones |= set(armed)
                self.zones -= set(disarmed)
            case AllOf(effects):
                return tuple(self._result(one) for one in effects)
            case Spawn(procedure):
                self.tasks.append(_Task(procedure))
            case Wait() | Lock():
                pass  # _block sees to it
            case _:
                assert_never(effect)
        return None

    def _result(self, effect: Effect) -> Any:
        try:
            return self.perform(effect)
        except RestoreError as failure:
            return failure


def _all_open(gates: list[Gate]) -> Gate:
    """A gate that opens when the last of *gates* does."""
    both = Gate()
    left = len(gates)

    def count_down() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            both.open()

    for gate in gates:
        gate.when_open(count_down)
    return both
