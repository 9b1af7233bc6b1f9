"""One iSCSI session, from connect to loss. It is never reused: a new login gets a new one.

States: *opening* (``open`` runs) -> *up* -> *lost*. ``open`` either returns with
the session up or raises with it lost. A session is lost when the peer closes the
connection, breaks the protocol, leaves two NOP-Outs unanswered, or leaves a
command unanswered beyond its deadline. Losing it destroys the libiscsi context
*first* and ends the commands *afterwards*: so whoever is told that a command
ended may use its memory again, also after a timeout.

All calls come from the thread of the event loop.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, TimerHandle, get_running_loop, timeout
from collections.abc import Callable
from time import monotonic
from typing import Final

from ..core.buffer import Buffers
from ..errors import SourceError, SourceLoginError, SourceUnreachableError
from ..options import IscsiOptions
from .iscsi_line import LineWatch
from .iscsi_url import format_portal
from .libiscsi import DATA_OUT, POLLIN, POLLOUT, Context, ContextSettings, LibiscsiError
from .scsi import GOOD, LOST, Outcome

UNANSWERED_NOPS_MAX: Final = 2
"""A third keepalive is not sent: the peer is taken for gone."""

_TICK_SECONDS_MAX: Final = 1.0
_TICK_SECONDS_MIN: Final = 0.05
_LOGOUT_SECONDS: Final = 1.0


_UNREADABLE: Final = "NUL not found"
"""libiscsi 1.20 and earlier take the padding of a login response for text, and Linux targets leave
old bytes in it. Only the last answer of mutual CHAP is long enough for that, 50 bytes and the name:
nothing is padded when its length is 2, 6, 10 or 14."""


def _explained(reason: str) -> str:
    if not reason.startswith(_UNREADABLE):
        return reason
    return (
        f"libiscsi cannot read its answer ({reason}); with mutual CHAP and a Linux target choose a "
        "target_user of 6, 10 or 14 characters on both sides, so that the answer has no padding"
    )


class Command:
    """One SCSI command. ``on_end(command, outcome)`` is called exactly once per submission."""

    __slots__ = (
        "buffers",
        "cdb",
        "deadline",
        "direction",
        "due_at",
        "keep",
        "length",
        "on_end",
        "started",
    )

    def __init__(
        self,
        cdb: bytes,
        direction: int,
        buffers: Buffers,
        length: int,
        on_end: Callable[[Command, Outcome], None],
    ) -> None:
        self.cdb = cdb
        self.direction = direction
        self.buffers = buffers
        self.length = length
        self.on_end: Callable[..., None] = on_end
        self.keep: object = None
        self.started = 0.0
        self.deadline = 0.0
        self.due_at = 0
        """How many bytes the connection has moved when this command's turn must have come."""


class IscsiSession:
    """A login to one LUN.

    Args:
        name: of the source, for messages.
        on_lost: called with the session and the reason when an *up* session is lost, before its
            commands are ended.
        on_room: called after commands have ended on a session that is still up.
    """

    __slots__ = (
        "_commands",
        "_context",
        "_fd",
        "_flush_is_due",
        "_heard",
        "_is_writing",
        "_line",
        "_loop",
        "_name",
        "_on_lost",
        "_on_room",
        "_opening",
        "_options",
        "_parked",
        "_tag",
        "_tick",
        "_time",
        "bytes_in_flight",
        "has_lost_writes",
        "is_lost",
        "loss",
    )

    def __init__(
        self,
        name: str,
        settings: ContextSettings,
        options: IscsiOptions,
        on_lost: Callable[[IscsiSession, SourceError], None],
        on_room: Callable[[], None],
    ) -> None:
        self._name = name
        self._options = options
        self._on_lost = on_lost
        self._on_room = on_room
        self._loop: AbstractEventLoop = get_running_loop()
        self._time = monotonic  # what the loop's own clock reads, without its wrapper
        self._context = Context(settings)
        self._commands: dict[int, Command] = {}
        self._parked: list[object] = []
        self._opening: Future[None] | None = None
        self.loss: SourceError | None = None
        """What ended the session, unless opening it did."""
        self._tag = 0
        self._fd = -1
        self._is_writing = False
        self._flush_is_due = False
        self._heard = 0.0
        self._line = LineWatch(min(options.keepalive_seconds, options.command_timeout_seconds))
        self._tick: TimerHandle | None = None
        self.bytes_in_flight = 0
        self.has_lost_writes = False
        self.is_lost = False

    # --- opening and closing -------------------------------------------------------------

    async def open(self, host: str, port: int, timeout_seconds: float) -> None:
        """Connect to a numeric *host* and log in, within *timeout_seconds*.

        Raises:
            SourceUnreachableError: no connection, no answer, or the target cannot serve just now.
            SourceLoginError: the target refused: wrong secret, unknown IQN, no access.
        """
        try:
            async with timeout(timeout_seconds):
                await self._connect(host, port)
                await self._login()
        except LibiscsiError as error:
            self._discard()
            raise SourceUnreachableError(self._name, str(error)) from error
        except TimeoutError as error:
            self._discard()
            portal = format_portal(host, port)
            reason = f"{portal} did not answer within {timeout_seconds:g} s"
            raise SourceUnreachableError(self._name, reason) from error
        except BaseException:
            self._discard()
            raise
        self._heard = self._time()
        self._schedule_tick()

    async def close(self) -> None:
        """Log out if the peer lets us, then end what is still in flight."""
        if not self.is_lost and self._opening is None:
            try:
                self._context.logout()
                self._flush()
                async with timeout(_LOGOUT_SECONDS):
                    await self._state(lambda: self._context.is_logged_out or None)
            except (LibiscsiError, TimeoutError, SourceError):
                pass  # it was only politeness
        self.lose(SourceUnreachableError(self._name, "it was closed"))

    async def _connect(self, host: str, port: int) -> None:
        self._fd = self._context.connect(host, port)
        self._loop.add_writer(self._fd, self._flush)
        self._is_writing = True
        await self._state(lambda: self._context.is_connected)
        if not self._context.is_connected:
            raise SourceUnreachableError(self._name, self._context.error)
        # not before: reading would take the error that tells why connecting failed
        self._loop.add_reader(self._fd, self._on_readable)

    async def _login(self) -> None:
        self._context.login()
        self._flush()
        await self._state(lambda: self._context.is_logged_in)
        if self._context.is_redirected:
            raise SourceLoginError(self._name, "the target moved to another address; name that one")
        if not self._context.is_logged_in:
            reason = _explained(self._context.error.rstrip("."))
            is_refusal = not any(f"({status})" in reason for status in (0x300, 0x301, 0x302))
            kind = SourceLoginError if is_refusal else SourceUnreachableError
            raise kind(self._name, reason)

    def _progress(self) -> tuple[bool | None, bool | None]:
        return self._context.is_connected, self._context.is_logged_in

    async def _state(self, read: Callable[[], bool | None]) -> None:
        """Wait until *read* gives something else than None. Raises what lost the session."""
        while self.loss is None and read() is None:
            self._opening = self._loop.create_future()
            await self._opening
        self._opening = None
        if self.loss is not None:
            raise self.loss

    # --- commands ------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more commands may be submitted."""
        return self._options.queue_depth - len(self._commands)

    def submit(self, command: Command) -> None:
        """Send *command*. The session must be up; its buffers are libiscsi's until ``on_end``."""
        assert not self.is_lost
        self._tag = tag = self._tag + 1
        command.started = now = self._time()
        command.deadline = now + self._options.command_timeout_seconds
        self._commands[tag] = command
        self.bytes_in_flight += command.length
        command.due_at = self._line.moved + self.bytes_in_flight
        try:
            command.keep = self._context.submit(
                tag, command.cdb, command.direction, command.length, command.buffers
            )
        except LibiscsiError as error:
            self._loop.call_soon(self.lose, SourceUnreachableError(self._name, str(error)))
            return
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def lose(self, error: SourceError) -> None:
        """End the session: destroy the context, then end every command with LOST."""
        if self.is_lost:
            return
        is_up = self._tick is not None
        self.loss = error
        self._discard()
        commands, self._commands = self._commands, {}
        self.has_lost_writes = any(c.direction == DATA_OUT for c in commands.values())
        self._parked.clear()
        self.bytes_in_flight = 0
        if is_up:
            self._on_lost(self, error)
        for command in commands.values():
            command.keep = None
            command.on_end(command, LOST)
        self._wake_opener()

    def _wake_opener(self) -> None:
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(None)

    def _discard(self) -> None:
        """Let libiscsi go. No byte of any command is touched after this."""
        if self.is_lost:
            return
        self.is_lost = True
        if self._tick is not None:
            self._tick.cancel()
        self._unwatch()
        self._context.destroy()

    def _unwatch(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)

    # --- the loop's callbacks ------------------------------------------------------------

    def _on_readable(self) -> None:
        self._heard = self._time()
        self._service(POLLIN)

    def _flush(self) -> None:
        self._flush_is_due = False
        if not self.is_lost:
            self._service(POLLOUT)

    def _service(self, revents: int) -> None:
        try:
            events = self._context.service(revents)
            self._end_commands()
        except BaseException:
            self.lose(SourceUnreachableError(self._name, "internal error"))
            raise
        if self.is_lost:
            return
        if events < 0:
            if self._tick is None and False in self._progress():
                self._unwatch()
                self._wake_opener()  # it says why
            else:
                self.lose(SourceUnreachableError(self._name, "the connection was lost"))
            return
        is_writing = bool(events & POLLOUT)
        if is_writing != self._is_writing:
            self._is_writing = is_writing
            if is_writing:
                self._loop.add_writer(self._fd, self._flush)
            else:
                self._loop.remove_writer(self._fd)
        self._wake_opener()

    def _end_commands(self) -> None:
        context = self._context
        commands = self._commands
        good = context.take_good()
        for tag in good:
            command = commands.pop(tag)
            command.keep = None
            self.bytes_in_flight -= command.length
            command.on_end(command, GOOD)
        failed = context.take_failed()
        for tag, outcome in failed:
            if outcome.status >= LOST.status:
                continue  # the session ends, and this command with it
            command = commands.pop(tag)
            if command.direction == DATA_OUT:
                self._parked.append(command.keep)
            command.keep = None
            self.bytes_in_flight -= command.length
            command.on_end(command, outcome)
        if self._parked and not context.has_parked:
            self._parked.clear()
        if good or failed:
            self._on_room()

    # --- time ----------------------------------------------------------------------------

    def _schedule_tick(self) -> None:
        options = self._options
        quarter = min(options.keepalive_seconds, options.command_timeout_seconds) / 4
        delay = min(max(quarter, _TICK_SECONDS_MIN), _TICK_SECONDS_MAX)
        self._tick = self._loop.call_later(delay, self._on_tick)

    def _on_tick(self) -> None:
        """Look for what has not happened: answers to commands, or anything at all."""
        now = self._time()
        self._schedule_tick()
        self._watch_line(now)
        if any(command.deadline <= now for command in self._commands.values()):
            self._lose_silent("a command was not answered in time")
        elif now - self._heard >= self._options.keepalive_seconds:
            self._send_keepalive(now)
        if not self.is_lost:
            self._service(0)

    def _watch_line(self, now: float) -> None:
        """Let no time pass for what waits its turn on a line that is slow, but carries bytes.

        A keepalive would wait its turn as well, and prove no more.
        """
        passed = self._line.look(self._context.moved, now)
        if not self._line.is_moving or not self._commands:
            return
        self._heard = now
        for command in self._commands.values():
            if command.due_at > self._line.moved:
                command.deadline += passed

    def _send_keepalive(self, now: float) -> None:
        if self._context.unanswered_nops >= UNANSWERED_NOPS_MAX:
            self._lose_silent("it does not answer keepalives")
            return
        self._heard = now  # the next keepalive is due one interval later
        try:
            self._context.send_nop()
        except LibiscsiError as error:
            self._lose_silent(str(error))
            return
        self._flush()

    def _lose_silent(self, reason: str) -> None:
        self.lose(SourceUnreachableError(self._name, reason))
