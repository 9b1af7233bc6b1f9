"""What the plugin imports in these tests: the real entry points over a fake runtime.

A volume's name says how it behaves; see ``FakeVolume.submit``.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

from tcmu_restore import errors
from tcmu_restore.core.buffer import copy_into, first_difference, slice_buffers
from tcmu_restore.engine.command import Command, CommandKind
from tcmu_restore.handler import entry_points

entry_points.timeouts = entry_points.Timeouts(open_seconds=0.5, stop_seconds=1.0, close_seconds=2.0)


class _UnknownError(errors.RestoreError):
    """Unknown to the table."""


RAISED: dict[str, Exception] = {
    "raise-submit": ValueError("a mistake"),
    "raise-assert": AssertionError("an invariant"),
}

FAILURES: dict[str, Any] = {
    "fail-unreachable": errors.SourceUnreachableError("backup", "gone"),
    "fail-busy": errors.SourceBusyError("backup", "full"),
    "fail-lost": errors.LostRegionError(0, 4096),
    "fail-write": errors.SourceWriteError("primary", "EIO"),
    "fail-range": errors.OutOfRangeError(0, 1, 0),
    "fail-fenced": errors.FencedError("v", "map"),
    "fail-strange": KeyError("x"),
    "fail-unknown": _UnknownError(),
}

lost: list[Command] = []


class FakeVolume:
    """A volume in memory."""

    region_size = 4096

    def __init__(self, name: str, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.size = 2 * size  # it has grown, and LIO is to be told
        self.name = name
        self.memory = bytearray(size)
        self.loop = loop
        self.count = 0

    def lio_resized(self, size: int) -> None:
        assert size == self.size

    def submit(self, command: Command) -> None:
        self.count += 1
        if self.name in RAISED:
            raise RAISED[self.name]
        if self.name == "null":
            command.complete(None)
        elif self.name == "fua":
            command.complete(None if command.fua else FAILURES["fail-lost"])
        elif self.name in FAILURES:
            command.complete(FAILURES[self.name])
        elif self.name == "lost-commands":
            lost.append(command)
        elif self.name == "held":
            self.loop.call_later(0.3, self._run, command)
        elif self.name == "stale":
            self.loop.call_later(0.001, self._run, command)
            self.loop.call_later(0.0015, command.complete, None)
        elif self.name.startswith("late") and self.count % 3:
            self.loop.call_later(0.0002 * (self.count % 5), self._run, command)
        else:
            self._run(command)
        if self.name == "twice":
            command.complete(None)
            self.loop.call_later(0.001, command.complete, None)

    def _run(self, command: Command) -> None:
        command.complete(self._serve(command))

    def _serve(self, command: Command) -> errors.RestoreError | None:
        whole = memoryview(self.memory)[command.offset : command.offset + command.length]
        assert whole.nbytes == command.length
        assert all(part.nbytes and part.format == "B" for part in command.buffers)
        here = (whole,) if whole.nbytes else ()
        match command.kind:
            case CommandKind.READ:
                copy_into(command.buffers, here)
            case CommandKind.WRITE:
                copy_into(here, command.buffers)
            case CommandKind.UNMAP:
                whole[:] = bytes(command.length)
            case CommandKind.WRITE_SAME:
                block = b"".join(command.buffers)
                whole[:] = block * (command.length // len(block))
            case CommandKind.COMPARE_AND_WRITE:
                halves = [
                    slice_buffers(command.buffers, offset=start, length=command.length)
                    for start in (0, command.length)
                ]
                difference = first_difference(here, halves[0])
                if difference is not None:
                    return errors.MiscompareError(difference)
                copy_into(here, halves[1])
        return None


class FakeRuntime:
    """A thread with a loop, and volumes in memory."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.volumes: dict[str, FakeVolume] = {}

    def start(self) -> None:
        if os.environ.get("FAKE_START_FAILS"):
            raise errors.ServiceUnavailableError("no bus")
        self.thread.start()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def check(self, name: str) -> None:
        if name == "raise-check":
            raise ZeroDivisionError
        if name == "unknown":
            raise errors.UnknownVolumeError(name)
        if name == "long-reason":
            raise errors.BadDefinitionError(name, "\N{SNOWMAN}" * 700)

    async def open_volume(self, name: str, size: int, block_size: int) -> FakeVolume:
        assert threading.current_thread() is self.thread
        self.check(name)
        if name == "raise-open":
            raise ZeroDivisionError
        if name == "slow-open":
            await asyncio.sleep(60)
        while lost:
            lost.pop().complete(None)
        assert name not in self.volumes
        self.volumes[name] = FakeVolume(name, size, self.loop)
        return self.volumes[name]

    async def close_volume(self, name: str) -> None:
        del self.volumes[name]


runtime_type: Callable[[], FakeRuntime] = FakeRuntime
entry_points.make_runtime = runtime_type
