"""Sends a store's commands over its sessions, first in first out, and judges how they end.

A command *waits* while every session has its queue depth in flight, is *in
flight*, or is *delayed* after a busy answer. When the store becomes unusable,
waiting and delayed ones fail; those in flight are ended by their session.
"""

from __future__ import annotations

from asyncio import TimerHandle, get_running_loop
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from ..errors import SourceError, SourceUnreachableError
from ..options import IscsiOptions
from . import scsi
from .iscsi_call import CallKind, DataCommand, error_of
from .iscsi_session import IscsiSession
from .scsi import GOOD, Outcome, Verdict, judge
from .statistics import SourceStatistics

RETRY_SECONDS: Final = 0.01
"""The first pause before a busy command is sent again; it doubles up to the next one."""

RETRY_SECONDS_MAX: Final = 1.0

TRIES_MAX: Final = 20
"""Of one command; also ended by ``command_timeout_seconds`` after its first try."""

_INVALID_OPCODE: Final = 0x20


class CommandQueue:
    """The commands of one store. Only its store calls it, from the loop's thread.

    Args:
        unreachable: gives the error for commands that have no chance.
    """

    __slots__ = (
        "_delayed",
        "_loop",
        "_name",
        "_timeout_seconds",
        "_unreachable",
        "_waiting",
        "epoch",
        "is_usable",
        "on_epoch",
        "sessions",
        "statistics",
    )

    def __init__(
        self, name: str, options: IscsiOptions, unreachable: Callable[[], SourceError]
    ) -> None:
        self._name = name
        self._timeout_seconds = options.command_timeout_seconds
        self._unreachable = unreachable
        self._loop = get_running_loop()
        self._waiting: deque[DataCommand] = deque()
        self._delayed: dict[DataCommand, TimerHandle] = {}
        self.sessions: list[IscsiSession] = []
        """Those that are up; the store adds and removes them."""
        self.is_usable = False
        """Whether new commands have a chance; set with ``resume`` and ``stop``."""
        self.epoch = 0
        self.on_epoch: Callable[[int], None] = lambda epoch: None
        """Told of a new epoch before any answer of that epoch is passed on."""
        self.statistics = SourceStatistics()

    def begin_epoch(self) -> None:
        """The peer may have forgotten what it had not flushed."""
        self.epoch += 1
        self.on_epoch(self.epoch)

    def resume(self) -> None:
        """Take commands from now on."""
        assert self.sessions
        self.is_usable = True

    def stop(self) -> None:
        """Take no more commands, and fail those that are not in flight. Twice is fine."""
        self.is_usable = False
        while self._waiting:
            self._fail(self._waiting.popleft(), self._unreachable())
        for command, handle in list(self._delayed.items()):
            handle.cancel()
            self._redispatch(command)

    def dispatch(self, command: DataCommand) -> None:
        """Send *command*, or let it wait behind those that wait already."""
        session = None if self._waiting else self._roomiest()
        if session is None:
            self._waiting.append(command)
        else:
            self.send(session, command)

    def send(self, session: IscsiSession, command: DataCommand) -> None:
        """Send *command* over *session*, also beyond the queue depth."""
        command.session = session
        command.epoch = self.epoch
        command.tries += 1
        session.submit(command)
        if command.tries == 1:
            command.first_started = command.started

    def fill(self) -> None:
        """Send what waits, as far as there is room."""
        waiting = self._waiting
        while waiting and self.is_usable:
            session = self._roomiest()
            if session is None:
                return
            self.send(session, waiting.popleft())

    def on_command_end(self, command: DataCommand, outcome: Outcome) -> None:
        """Note how *command* ended; its session calls this."""
        if outcome is not GOOD and not self._is_good_after_all(command, outcome):
            return
        call = command.call
        if call.kind is CallKind.READ:
            self.statistics.count_read(command.length, monotonic() - command.started)
        elif call.kind is CallKind.WRITE:
            self.statistics.count_write(command.length, monotonic() - command.started)
        if command.epoch < call.epoch:  # noqa: PLR1730 - min() costs a call per command
            call.epoch = command.epoch
        call.end_one(self.epoch)

    def _roomiest(self) -> IscsiSession | None:
        """Return the session with the most room, or None where all are full."""
        sessions = self.sessions
        session = sessions[0] if len(sessions) == 1 else max(sessions, key=_room)
        return session if session.room > 0 else None

    def _is_good_after_all(self, command: DataCommand, outcome: Outcome) -> bool:
        """Retry, replace or fail *command*, or return True if *outcome* does no harm."""
        verdict = judge(outcome)
        if scsi.is_reset(outcome):
            self.begin_epoch()
        if verdict is Verdict.GOOD:
            return True
        if verdict is Verdict.UNSUPPORTED:
            if command.call.kind is CallKind.FLUSH and outcome.asc_ascq >> 8 == _INVALID_OPCODE:
                return True  # a device without a cache to flush
            if self.is_usable and command.replace is not None and command.replace():
                command.call.left -= 1
                return False
        if verdict is Verdict.REEXAMINE and command.session is not None:
            error = SourceUnreachableError(self._name, "the LUN has changed")
            self._loop.call_soon(command.session.lose, error)
        if not self._retry(command, verdict):
            if verdict is Verdict.LOST and not self.is_usable:
                self._fail(command, self._unreachable())
            else:
                self._fail(command, error_of(command.call.kind, self._name, outcome, verdict))
        return False

    def _retry(self, command: DataCommand, verdict: Verdict) -> bool:
        """Send *command* again, now or later, or return False if that is no use."""
        elapsed = monotonic() - command.first_started
        if not self.is_usable or elapsed > self._timeout_seconds or command.tries >= TRIES_MAX:
            return False
        if verdict is Verdict.RETRY_LATER:
            delay = min(RETRY_SECONDS * 2 ** (command.tries - 1), RETRY_SECONDS_MAX)
            self._delayed[command] = self._loop.call_later(delay, self._redispatch, command)
        elif verdict is Verdict.RETRY_NOW or (
            verdict is Verdict.LOST and command.call.kind is CallKind.READ
        ):
            self.dispatch(command)
        else:
            return False
        self.statistics.retried_commands += 1
        return True

    def _redispatch(self, command: DataCommand) -> None:
        del self._delayed[command]
        if self.is_usable:
            self.dispatch(command)
        else:
            self._fail(command, self._unreachable())

    def _fail(self, command: DataCommand, error: SourceError) -> None:
        self.statistics.failed_commands += 1
        command.call.error = error
        command.call.end_one(self.epoch)


def _room(session: IscsiSession) -> int:
    return session.room
