"""Threads for calls that may block, with one wake-up of the loop for many results.

``concurrent.futures`` costs a lock, a condition and a wake-up of the event loop
per call; at a few microseconds per local write that shows. Here a call is one
tuple in a queue, and finished calls are collected until the loop drains them.

Only the loop's thread may call ``submit`` and ``close``. The functions given to
``submit`` run in a pool thread and must not touch anything of the loop.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, get_running_loop
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

_T = TypeVar("_T")
_Job = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


class IoThreads:
    """A fixed number of threads that run blocking calls in the order of their submission.

    The threads start with the first call, and belong to the loop that ran then. A future that
    its caller cancels does not stop its call: the memory in the arguments stays in use until the
    call returns, and ``close`` waits for it.
    """

    __slots__ = (
        "_count",
        "_done",
        "_idle",
        "_is_waking",
        "_jobs",
        "_loop",
        "_name",
        "_pending",
        "_threads",
    )

    def __init__(self, name: str, count: int) -> None:
        assert count > 0
        self._name = name
        self._count = count
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[tuple[Future[Any], Any, BaseException | None]] = deque()
        self._threads: list[Thread] = []
        self._loop: AbstractEventLoop | None = None
        self._pending = 0
        self._is_waking = False
        self._idle: Future[None] | None = None

    def submit(self, function: Callable[..., _T], *args: Any) -> Future[_T]:
        """Run ``function(*args)`` in a thread; its result or exception becomes the future's."""
        loop = self._loop or self._start()
        future: Future[_T] = loop.create_future()
        self._pending += 1
        self._jobs.put((future, function, args))
        return future

    async def close(self) -> None:
        """Wait for every call that was submitted, then end the threads. Twice is fine."""
        while self._pending:
            self._idle = self._idle or get_running_loop().create_future()
            await self._idle
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()  # immediate: nothing is queued but the end
        self._threads.clear()
        self._loop = None

    def _start(self) -> AbstractEventLoop:
        self._loop = get_running_loop()
        for number in range(self._count):
            thread = Thread(target=self._work, args=(self._loop,), name=f"{self._name}-{number}")
            thread.daemon = True  # a device that hangs for ever must not keep the process
            thread.start()
            self._threads.append(thread)
        return self._loop

    def _work(self, loop: AbstractEventLoop) -> None:
        done = self._done
        while (job := self._jobs.get()) is not None:
            future, function, args = job
            try:
                result, error = function(*args), None
            except BaseException as raised:  # noqa: BLE001 - it goes to the caller, whatever it is
                result, error = None, raised
            done.append((future, result, error))
            if not self._is_waking:  # read after the append, cleared before the drain
                self._is_waking = True
                loop.call_soon_threadsafe(self._deliver)
            del job, future, args, result, error  # no reference to the caller's memory while idle

    def _deliver(self) -> None:
        self._is_waking = False
        done = self._done
        while done:
            future, result, error = done.popleft()
            self._pending -= 1
            if future.done():
                continue  # cancelled by its caller
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if self._pending == 0 and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None
