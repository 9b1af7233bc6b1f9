"""One device's commands on the engine's thread: out of the queue, into the engine, and back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from ..core.buffer import Buffers
from ..engine.command import Command, CommandKind
from ..log_line import log_line
from .runtime_seam import VolumeEngine
from .scsi_status import Status, information_of, status_of

_log = logging.getLogger(__name__)

Record = tuple[int, int, int, Buffers, int, int]
"""id, offset, length, buffers, kind, fua."""

Completion = tuple[int, int, int]
"""id, status, information."""

_KINDS: Final = (None, *CommandKind)
assert all(_KINDS[kind] is kind for kind in CommandKind)


class CommandQueue(Protocol):
    """What ``glue.GlueDevice`` offers; see there."""

    def fileno(self) -> int:
        """Return the descriptor that is readable while commands wait."""

    def drain(self) -> Sequence[Record]:
        """Take waiting commands."""

    def complete(self, completions: Sequence[Completion]) -> int:
        """Complete commands; return how many were refused."""

    def stop(self) -> None:
        """Refuse what comes from now on."""

    def close_descriptor(self) -> None:
        """Close the descriptor."""


class Device:
    """Carries commands between a queue and a volume's engine.

    All methods run on the loop's thread. Completions of one turn of the loop are handed over
    together, in the order in which they came.

    Invariants:
        CMD-1: each drained command is completed once; the glue refuses a second time, and it
            is logged, because it is an error of the engine.
        An exception that leaves the engine completes its command with a hardware error.
    """

    def __init__(
        self, name: str, queue: CommandQueue, engine: VolumeEngine, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.name = name
        self._queue = queue
        self._engine = engine
        self._loop = loop
        self._completions: list[Completion] = []
        self._is_flush_due = False
        self._open_count = 0
        self._idle: asyncio.Event | None = None

    @property
    def open_count(self) -> int:
        """Commands that the engine has and has not completed."""
        return self._open_count

    def start(self) -> None:
        """Begin to read the queue."""
        self._loop.add_reader(self._queue.fileno(), self._on_readable)

    def take_size(self, size: int) -> bool:
        """Return whether LIO's backstore may have *size* bytes: the volume has. Any thread."""
        if size != self._engine.size:
            return False
        self._loop.call_soon_threadsafe(self._engine.lio_resized, size)
        return True

    async def stop(self, timeout_seconds: float) -> None:
        """Refuse new commands, serve those that wait, and return when all are completed.

        Raises:
            TimeoutError: some were not; they never will be.
        """
        self._queue.stop()
        self._idle = asyncio.Event()
        try:
            while self._on_readable():
                pass
            if self._open_count:
                async with asyncio.timeout(timeout_seconds):
                    await self._idle.wait()
        finally:
            self._loop.remove_reader(self._queue.fileno())
            self._queue.close_descriptor()

    def _on_readable(self) -> int:
        records = self._queue.drain()
        self._is_flush_due = True  # below, so what completes at once schedules nothing
        self._open_count += len(records)
        submit = self._engine.submit
        for number, offset, length, buffers, kind, fua in records:
            complete = partial(self._finish, number)
            if not (length or kind == CommandKind.FLUSH):
                complete(None)  # SBC: a transfer length of 0 is no error
                continue
            known = _KINDS[kind]
            assert known is not None
            try:
                submit(Command(known, offset, length, buffers, bool(fua), complete))
            except Exception as error:  # noqa: BLE001  # the host must get an answer
                place = {"offset": offset, "length": length}
                operation = known.name.lower()
                line = log_line("it was not taken", volume=self.name, operation=operation, **place)
                _log.exception(line)
                complete(error)
        self._flush()
        return len(records)

    def _finish(self, number: int, error: BaseException | None) -> None:
        if error is None:
            self._completions.append((number, Status.GOOD, 0))
        else:
            self._completions.append((number, status_of(error), information_of(error)))
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        completions = self._completions
        if not completions:
            return
        self._completions = []
        refused = self._queue.complete(completions)
        if refused:
            sentence = f"{refused} commands were completed a second time"
            _log.error(log_line(sentence, volume=self.name, operation="complete"))
        self._open_count -= len(completions) - refused
        if self._idle is not None and self._open_count == 0:
            self._idle.set()
