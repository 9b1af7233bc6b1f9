"""SCSI commands of one volume: runs each, holds what cannot be served yet, answers in time.

CMD-1: each command is completed exactly once. One that fails for want of a
source is held until the source is back or its hold ends; then it is answered
BUSY, or, when the source has been away longer than the volume's deadline, with
an unrecoverable error (RD-1). Nothing of a held command is in flight, so no
late local write can follow its answer. A read that waits for bytes on their way
over a slow line is answered BUSY in good time; the fetch goes on.
"""

from __future__ import annotations

from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable
from functools import partial

from ..core.effects import Procedure
from ..core.extent import Extent
from ..core.gate import Gate
from ..core.mirroring import MirrorPolicy
from ..core.volume import Volume
from ..errors import (
    FencedError,
    LostRegionError,
    OutOfRangeError,
    RestoreError,
    SourceError,
    SourceUnreachableError,
    SourceWriteError,
)
from ..options import VolumeOptions
from .command import Command, CommandKind
from .driver import Driver

RETRY_SECONDS = 1.0
"""A held command is tried again this often, beside each time a source comes back: a full state
file system says nothing when it has room again."""

SWEEP_SECONDS = 1.0
"""How often is looked for reads that have waited long enough; one timer for all of them."""


class CommandQueue:
    """The commands that a volume has accepted and not yet answered."""

    def __init__(
        self,
        volume: Volume,
        driver: Driver,
        options: VolumeOptions,
        when_idle: Callable[[], None],
        on_ended: Callable[[float], None],
    ) -> None:
        self._volume = volume
        self._driver = driver
        self._options = options
        self._when_idle = when_idle
        self._on_ended = on_ended
        """Told the seconds that a command took; not one that was held or failed."""
        self._open: dict[Command, float] = {}
        self._held: dict[Command, tuple[TimerHandle, float]] = {}
        """The next try of each, and its deadline."""
        self._patience: dict[Command, Gate] = {}
        """Of each open read: opened when it has waited long enough for a slow line."""
        self._sweep: TimerHandle | None = None
        self._is_closing = False
        self.unreachable_since: float | None = None
        """Loop time since which the backup has been away, or None."""

    def __len__(self) -> int:
        return len(self._open)

    def submit(self, command: Command) -> None:
        """Run *command*; its ``complete`` is called once, perhaps before this returns."""
        now = self._open[command] = get_running_loop().time()
        geometry = self._volume.state.geometry
        if command.offset + command.length > geometry.size:
            self._complete(command, OutOfRangeError(command.offset, command.length, geometry.size))
        elif self._is_closing:
            self._complete(command, _closing())
        else:
            self._attempt(command, now + self._options.hold_seconds)

    def source_changed(self) -> None:
        """A source came back: try what is held again, in the order in which it came."""
        held, self._held = self._held, {}
        for command, (timer, deadline) in held.items():
            timer.cancel()
            self._attempt(command, deadline)

    def close(self) -> None:
        """Answer what is held with BUSY and take nothing more. What runs goes on to its end."""
        self._is_closing = True
        for gate in list(self._patience.values()):
            gate.open()
        held, self._held = self._held, {}
        for command, (timer, _) in held.items():
            timer.cancel()
            self._complete(command, _closing())

    def _attempt(self, command: Command, deadline: float) -> None:
        if command.length == 0 and command.kind is not CommandKind.FLUSH:
            self._complete(command, None)
            return
        procedure = _procedure(self._volume, command, self._patience_of(command))
        self._driver.start(procedure, partial(self._attempt_done, command, deadline))

    def _patience_of(self, command: Command) -> Gate | None:
        if command.kind is not CommandKind.READ:
            return None
        gate = self._patience.get(command)
        if gate is None:
            gate = self._patience[command] = Gate()
            if self._sweep is None:
                self._sweep = get_running_loop().call_later(SWEEP_SECONDS, self._swept)
        return gate

    def _swept(self) -> None:
        """Let no read wait any longer that has waited long enough: it is answered BUSY."""
        loop = get_running_loop()
        began_before = loop.time() - self._options.patience_seconds
        for command, gate in list(self._patience.items()):
            if self._open[command] <= began_before:
                gate.open()
        self._sweep = loop.call_later(SWEEP_SECONDS, self._swept) if self._patience else None

    def _attempt_done(self, command: Command, deadline: float, error: BaseException | None) -> None:
        if error is None:
            self._complete(command, None)
        elif not isinstance(error, RestoreError):
            self._complete(command, FencedError("", f"{type(error).__name__}: {error}"))
        elif not error.retryable:
            self._complete(command, error)
        elif self._is_closing or get_running_loop().time() >= deadline or self._is_overdue():
            self._complete(command, self._verdict(command, error))
        else:
            self._hold(command, deadline, error)

    def _hold(self, command: Command, deadline: float, error: RestoreError) -> None:
        loop = get_running_loop()
        when = min(deadline, loop.time() + RETRY_SECONDS)
        timer = loop.call_at(when, self._hold_ended, command, deadline, error)
        self._held[command] = timer, deadline

    def _hold_ended(self, command: Command, deadline: float, error: RestoreError) -> None:
        del self._held[command]
        if get_running_loop().time() < deadline:
            self._attempt(command, deadline)
        else:
            self._complete(command, self._verdict(command, error))

    def _is_overdue(self) -> bool:
        if self.unreachable_since is None:
            return False
        away = get_running_loop().time() - self.unreachable_since
        return away >= self._options.lost_read_deadline_seconds

    def _verdict(self, command: Command, error: RestoreError) -> RestoreError:
        """Return what a command that could not be served is answered with (RD-1).

        Strict: no backup, no write.
        """
        is_strict = self._volume.state.policy is MirrorPolicy.STRICT
        if is_strict and command.kind is not CommandKind.READ and isinstance(error, SourceError):
            return SourceWriteError(error.source, f"{error.reason}; the mirror is strict")
        if self._is_overdue() and command.kind is not CommandKind.FLUSH:
            return LostRegionError(command.offset, command.length)
        return error

    def _complete(self, command: Command, error: RestoreError | None) -> None:
        began = self._open.pop(command)  # CMD-1: a second completion fails here
        self._patience.pop(command, None)
        command.complete(error)
        if error is None:
            self._on_ended(get_running_loop().time() - began)
        if not self._open:
            self._when_idle()


def _closing() -> RestoreError:
    return SourceUnreachableError("the volume", "it is being closed")


def _procedure(volume: Volume, command: Command, patience: Gate | None) -> Procedure[None]:
    """Return the procedure that carries *command* out."""
    if command.kind is CommandKind.FLUSH:
        return volume.flush()
    extent, buffers, fua = Extent(command.offset, command.length), command.buffers, command.fua
    match command.kind:
        case CommandKind.READ:
            return volume.read(extent, buffers, patience=patience)
        case CommandKind.WRITE:
            return volume.write(extent, buffers, fua=fua)
        case CommandKind.UNMAP:
            return volume.zero(extent)
        case CommandKind.WRITE_SAME:
            return volume.write_same(extent, buffers, fua=fua)
        case CommandKind.COMPARE_AND_WRITE:
            return volume.compare_and_write(extent, buffers, fua=fua)
