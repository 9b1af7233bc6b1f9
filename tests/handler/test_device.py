"""A device over a queue in Python: order, batches, and what an unruly engine leads to."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence

import pytest

from tcmu_restore.engine.command import Command, CommandKind
from tcmu_restore.errors import MiscompareError
from tcmu_restore.handler.device import Completion, Device, Record
from tcmu_restore.handler.scsi_status import Status


class FakeQueue:
    """A queue that remembers each call of complete."""

    def __init__(self) -> None:
        self.waiting: list[list[Record]] = []
        self.batches: list[list[Completion]] = []
        self.open: set[int] = set()
        self.is_stopped = False
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK)

    def put(self, *records: Record) -> None:
        self.waiting.append(list(records))
        self.open |= {record[0] for record in records}
        os.eventfd_write(self.descriptor, 1)

    def fileno(self) -> int:
        return self.descriptor

    def drain(self) -> Sequence[Record]:
        if len(self.waiting) <= 1:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.descriptor)
        return self.waiting.pop(0) if self.waiting else []

    def complete(self, completions: Sequence[Completion]) -> int:
        self.batches.append(list(completions))
        refused = 0
        for number, _, _ in completions:
            refused += number not in self.open
            self.open.discard(number)
        return refused

    def stop(self) -> None:
        self.is_stopped = True

    def close_descriptor(self) -> None:
        os.close(self.descriptor)


class Engine:
    """Does with each command what it was given."""

    region_size = 4096
    size = 8192

    def __init__(self, serve: Callable[[Command], None]) -> None:
        self.submit = serve
        self.lio_sizes: list[int] = []

    def lio_resized(self, size: int) -> None:
        self.lio_sizes.append(size)


def read_record(number: int, length: int = 4096) -> Record:
    return (number, 0, length, (memoryview(bytearray(length)),) if length else (), 1, 0)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run_device(
    serve: Callable[[Command], None], *batches: list[Record], stop_seconds: float = 1
) -> FakeQueue:
    queue = FakeQueue()

    async def main() -> None:
        device = Device("vol0", queue, Engine(serve), asyncio.get_running_loop())
        device.start()
        for batch in batches:
            queue.put(*batch)
            await turns()
        await device.stop(stop_seconds)
        assert device.open_count == 0

    asyncio.run(main())
    return queue


def test_commands_completed_at_once_go_back_in_one_call() -> None:
    queue = run_device(lambda c: c.complete(None), [read_record(1), read_record(2)])
    assert queue.batches == [[(1, Status.GOOD, 0), (2, Status.GOOD, 0)]]


def test_commands_completed_later_go_back_in_one_call_a_turn() -> None:
    def serve(command: Command) -> None:
        asyncio.get_running_loop().call_soon(command.complete, None)

    queue = run_device(serve, [read_record(n) for n in range(3)])
    assert queue.batches == [[(0, Status.GOOD, 0), (1, Status.GOOD, 0), (2, Status.GOOD, 0)]]


def test_command_carries_what_the_record_says() -> None:
    seen: list[Command] = []

    def serve(command: Command) -> None:
        seen.append(command)
        command.complete(None)

    buffers = (memoryview(bytearray(512)), memoryview(bytearray(512)))
    run_device(serve, [(9, 4096, 1024, buffers, int(CommandKind.WRITE), 1)])
    (command,) = seen
    assert command.kind is CommandKind.WRITE
    assert (command.offset, command.length, command.fua) == (4096, 1024, True)
    assert command.buffers is buffers


def test_exception_of_the_engine_is_a_hardware_error_of_that_command_only() -> None:
    def serve(command: Command) -> None:
        if command.length == 512:
            raise ValueError("a mistake")
        command.complete(None)

    queue = run_device(serve, [read_record(1), read_record(2, 512), read_record(3)])
    assert queue.batches == [[(1, 0, 0), (2, Status.HARDWARE_ERROR, 0), (3, 0, 0)]]


def test_exception_after_completion_is_a_second_completion(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def serve(command: Command) -> None:
        command.complete(None)
        raise ValueError("a mistake")

    queue = run_device(serve, [read_record(1)])
    assert queue.batches == [[(1, 0, 0), (1, Status.HARDWARE_ERROR, 0)]]
    assert "1 commands were completed a second time" in caplog.text


def test_empty_transfer_is_good_without_the_engine() -> None:
    def serve(command: Command) -> None:
        raise AssertionError(command)

    queue = run_device(serve, [read_record(1, 0)])
    assert queue.batches == [[(1, Status.GOOD, 0)]]


def test_flush_has_no_length_and_reaches_the_engine() -> None:
    kinds: list[CommandKind] = []

    def serve(command: Command) -> None:
        kinds.append(command.kind)
        command.complete(None)

    run_device(serve, [(1, 0, 0, (), int(CommandKind.FLUSH), 0)])
    assert kinds == [CommandKind.FLUSH]


def test_miscompare_carries_its_offset() -> None:
    queue = run_device(lambda c: c.complete(MiscompareError(17)), [read_record(1)])
    assert queue.batches == [[(1, Status.MISCOMPARE, 17)]]


def test_stop_serves_what_waits_and_waits_for_what_is_held() -> None:
    queue = FakeQueue()

    def serve(command: Command) -> None:
        asyncio.get_running_loop().call_later(0.01, command.complete, None)

    async def main() -> None:
        device = Device("vol0", queue, Engine(serve), asyncio.get_running_loop())
        device.start()
        queue.put(read_record(1))
        queue.put(read_record(2))
        await device.stop(1)

    asyncio.run(main())
    assert queue.is_stopped
    assert not queue.open


def test_stop_ends_with_timeout_error_when_a_command_is_lost() -> None:
    with pytest.raises(TimeoutError):
        run_device(lambda _: None, [read_record(1)], stop_seconds=0.01)


def test_a_size_is_taken_only_if_the_volume_has_it() -> None:
    async def go() -> None:
        queue, engine = FakeQueue(), Engine(lambda _: None)
        device = Device("v", queue, engine, asyncio.get_running_loop())
        assert not device.take_size(4096)
        assert device.take_size(8192)
        await turns()
        assert engine.lio_sizes == [8192]
        queue.close_descriptor()

    asyncio.run(go())
