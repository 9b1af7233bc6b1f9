"""Runs procedures of the core on real sources, with callbacks and no task per transfer.

``start`` steps a procedure as far as it goes without waiting; each time
something has to be waited for, a callback goes on with it. Locks are released
here, however the procedure ends. Everything runs on the event loop's thread.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, assert_never, cast

from ..core.effects import (
    AdoptPrimary,
    AllOf,
    CommitIntent,
    CommitMap,
    CommitSize,
    Effect,
    FindZeros,
    Flush,
    Lock,
    Procedure,
    Read,
    Spawn,
    Wait,
    Write,
    Zero,
)
from ..core.extent_lock import ExtentLocks, Held
from ..core.gate import Gate
from ..errors import FencedError, RestoreError

Done = Callable[[BaseException | None], None]

Commit = CommitMap | CommitIntent | AdoptPrimary | CommitSize


class Performer(Protocol):
    """Carries effects out. Futures fail with a RestoreError; any other failure is our mistake."""

    def perform(self, effect: Read | Write | Zero | Flush | FindZeros) -> Future[Any]:
        """Start a transfer."""

    def commit(self, effect: Commit) -> Future[None]:
        """Start a commit; commits take effect in the order of these calls."""


class Driver:
    """Runs the procedures of one volume."""

    def __init__(
        self,
        locks: ExtentLocks,
        performer: Performer,
        on_mistake: Callable[[BaseException], None],
        on_ended: Callable[[], None],
    ) -> None:
        self._locks = locks
        self._performer = performer
        self._on_mistake = on_mistake
        self._on_ended = on_ended
        """Called when a procedure has ended, whatever came of it."""
        self._running: set[_Run] = set()
        self._idle: list[Future[None]] = []
        self.is_fenced = False

    async def wait_idle(self) -> None:
        """Return when no procedure is under way."""
        if self._running:
            self._idle.append(get_running_loop().create_future())
            await self._idle[-1]

    async def run(self, procedure: Procedure[None]) -> None:
        """Run *procedure* to its end; raise what it fails with."""
        ended: Future[BaseException | None] = get_running_loop().create_future()
        self.start(procedure, ended.set_result)
        error = await ended
        if error is not None:
            raise error

    def start(self, procedure: Procedure[None], done: Done) -> None:
        """Run *procedure*; *done* is called once, with None or with what it failed with.

        It may be called before this returns. A failure that is no RestoreError is a mistake of
        ours: it is reported to *on_mistake* first, which fences the volume.
        """
        if self.is_fenced:
            procedure.close()
            done(FencedError("", "an internal check failed earlier"))
            return
        run = _Run(self, procedure, done)
        self._running.add(run)
        run.step(None, None)

    def _end(self, run: _Run, error: BaseException | None) -> None:
        self._running.discard(run)
        for held in run.held:
            self._locks.release(held)
        run.held.clear()
        if error is not None and not isinstance(error, RestoreError):
            self._on_mistake(error)
        run.done(error)
        self._on_ended()
        while self._idle and not self._running:
            waiting = self._idle.pop()
            if not waiting.done():
                waiting.set_result(None)

    def _spawned_done(self, error: BaseException | None) -> None:
        """A spawned procedure's failure is its own affair; mistakes were reported already."""

    def _dispatch(self, run: _Run, effect: Effect) -> Future[Any] | Gate | None:
        """Start *effect*; return what to wait for, or None when it is done (answering None)."""
        match effect:
            case Read() | Write() | Zero() | Flush() | FindZeros():
                return self._performer.perform(effect)
            case CommitMap() | CommitIntent() | AdoptPrimary() | CommitSize():
                return self._performer.commit(effect)
            case Lock():
                return self._lock(run, effect)
            case Wait():
                return None if effect.gate.is_open else effect.gate
            case Spawn():
                self.start(effect.procedure, self._spawned_done)
                return None
            case AllOf():
                return _Group(self, run, effect.effects).finished
            case _:
                assert_never(effect)

    def _lock(self, run: _Run, effect: Lock) -> Gate | None:
        held: Held = self._locks.request(effect.extent, run)
        run.held.append(held)
        return None if held.granted.is_open else held.granted


class _Run:
    """One procedure under way."""

    __slots__ = ("_driver", "_procedure", "done", "held")

    def __init__(self, driver: Driver, procedure: Procedure[None], done: Done) -> None:
        self._driver = driver
        self._procedure = procedure
        self.done = done
        self.held: list[Held] = []

    def step(self, result: Any, error: BaseException | None) -> None:
        """Go on with the answer to the last effect until the next wait or the end."""
        while True:
            try:
                if error is not None:
                    effect = self._procedure.throw(error)
                else:
                    effect = self._procedure.send(result)
            except StopIteration:
                self._driver._end(self, None)
                return
            except BaseException as failure:  # noqa: BLE001 - handed on, not hidden
                self._driver._end(self, failure)
                return
            result, error = None, None
            try:
                waited = self._driver._dispatch(self, effect)
            except BaseException as failure:  # noqa: BLE001 - thrown into the procedure
                error = failure
                continue
            if waited is None:
                continue
            if isinstance(waited, Gate):
                # not at once: a chain of waiting procedures would grow the stack
                go_on = partial(get_running_loop().call_soon, self.step, None, None)
                waited.when_open(cast("Callable[[], None]", go_on))
                return
            if not waited.done():
                waited.add_done_callback(self._resume)
                return
            error = waited.exception()
            result = waited.result() if error is None else None

    def _resume(self, future: Future[Any]) -> None:
        error = future.exception()
        self.step(None if error else future.result(), error)


class _Group:
    """The effects of one AllOf. Its gate opens when the last has ended."""

    __slots__ = ("_left", "finished", "results")

    def __init__(self, driver: Driver, run: _Run, effects: tuple[Effect, ...]) -> None:
        self.finished: Future[Any] = get_running_loop().create_future()
        self.results: list[Any] = [None] * len(effects)
        self._left = len(effects) + 1  # one for ourselves: no early end while starting
        for index, effect in enumerate(effects):
            self._begin(driver, run, index, effect)
        self._count_down()

    def _begin(self, driver: Driver, run: _Run, index: int, effect: Effect) -> None:
        try:
            waited = driver._dispatch(run, effect)
        except RestoreError as error:
            self.results[index] = error
            waited = None
        if waited is None:
            self._count_down()
        elif isinstance(waited, Gate):
            waited.when_open(self._count_down)
        elif waited.done():
            self._settle(index, waited)
        else:
            waited.add_done_callback(partial(self._settle, index))

    def _settle(self, index: int, future: Future[Any]) -> None:
        error = future.exception()
        if error is not None and not isinstance(error, RestoreError):
            if not self.finished.done():
                self.finished.set_exception(error)
        else:
            self.results[index] = error if error is not None else future.result()
        self._count_down()

    def _count_down(self) -> None:
        self._left -= 1
        if self._left == 0 and not self.finished.done():
            self.finished.set_result(tuple(self.results))
