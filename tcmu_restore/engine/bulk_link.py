"""The link to the snapshot, where commands bring it up and take it down.

It is up for attaching and for merging, and is taken down when the merge is
done or cancelled, when the snapshot is detached, and when the volume is
closed. Before ``link_up`` runs it is committed how to take the link down; that
record goes only when ``link_down`` has succeeded. So after a crash a link with
a record is *unknown*: it is taken down, and brought up again for a merge that
goes on. While a merge waits for a snapshot that is away, ``link_up`` is tried
again, with growing pauses.

Everything here runs on the event loop's thread; one command runs at a time.
"""

from __future__ import annotations

import logging
from asyncio import Future, Lock, Task, TimerHandle, gather, get_running_loop, wait
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from ..errors import LinkCommandError, RestoreError, StateWriteError, WrongStateError
from ..log_line import log_line
from ..sources.base import BlockSource
from ..sources.iscsi import IscsiStore
from .events import EventLog
from .link_command import run_link_command
from .link_settings import LinkSettings
from .merge_job import MergeState

log = logging.getLogger(__name__)

REDIAL_SECONDS: Final = 15.0
"""How long a snapshot may be away before ``link_up`` is tried again; a session is back sooner if
the link still is there. Doubles up to the next one."""

REDIAL_SECONDS_MAX: Final = 300.0

CLOSE_SECONDS: Final = 10
"""How long the command that takes the link down may take when the volume is closed."""

FACT: Final = "bulk_link"
"""In the state file: the command that takes the link down, while the link may be up."""


class LinkState(Enum):
    """What is known of the link."""

    DOWN = "down"
    COMING_UP = "coming up"
    UP = "up"
    GOING_DOWN = "going down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the link needs of its volume."""

    volume: str
    events: EventLog
    commit_facts: Callable[[dict[str, Any]], Future[None]]
    merge_state: Callable[[], MergeState]
    snapshot: Callable[[], BlockSource | None]


class BulkLink:
    """One volume's bulk link. *record* is the fact that the state file holds."""

    def __init__(self, surroundings: Surroundings, record: dict[str, Any] | None) -> None:
        self._around = surroundings
        self.settings = LinkSettings()
        self.state = LinkState.UNKNOWN if record else LinkState.DOWN
        self.problem: LinkCommandError | None = None
        """Why the last command failed, as long as none has succeeded since."""
        self._record = record
        self._lock = Lock()
        self._merge = MergeState.IDLE
        self._running: Task[None] | None = None
        self._pause = REDIAL_SECONDS
        self._redial: TimerHandle | None = None
        self._tasks: set[Task[None]] = set()
        self._is_closed = False

    @property
    def has_commands(self) -> bool:
        """Whether the link has to be brought up before the snapshot can be reached."""
        return bool(self.settings.link_up)

    # --- up and down ----------------------------------------------------------------------

    async def bring_up(self, *, again: bool = False) -> None:
        """Run ``link_up`` unless the link is up already, or *again*; then let the snapshot connect.

        Raises:
            LinkCommandError: it failed, and the link was taken down again. StateWriteError.
        """
        if self.has_commands:
            async with self._lock:
                if again or self.state is not LinkState.UP:
                    await self._run_up()
        snapshot = self._around.snapshot()
        if isinstance(snapshot, IscsiStore):
            snapshot.start()
        self._expect_snapshot()

    async def _run_up(self) -> None:
        settings = self.settings
        record = {
            "down": list(settings.link_down),
            "timeout_seconds": settings.link_timeout_seconds,
        }
        await self._around.commit_facts({FACT: record})
        self._record = record
        self.state = LinkState.COMING_UP
        try:
            await self._run(settings.link_up, settings.link_timeout_seconds)
        except LinkCommandError as error:
            self.state = LinkState.UNKNOWN  # it may have done half of its work
            waits = self._around.merge_state() is MergeState.RUNNING
            merge = "the merge waits, and it is tried again" if waits else "no merge was started"
            outcome = f"The link was taken down again, and {merge}."
            try:
                await self._run_down()
            except RestoreError as second:
                outcome = f"The link may still be up, and {merge}. {second}"
            self.problem = replace(error, outcome=outcome)
            raise self.problem from error
        self.state, self.problem = LinkState.UP, None
        self._around.events.add("command", "The bulk link was brought up.")

    async def take_down(self) -> None:
        """Hang up and run ``link_down``, unless the link is down.

        Raises:
            LinkCommandError: it failed; the link is *unknown*. StateWriteError: it is down, but a
                restart will take it down once more.
        """
        self._stop_redialling()
        async with self._lock:
            if self._record is None:
                return
            snapshot = self._around.snapshot()
            if isinstance(snapshot, IscsiStore):
                await snapshot.disconnect()
            await self._run_down()

    async def _run(self, argv: Sequence[str], seconds: float) -> None:
        if self._is_closed:
            seconds = min(seconds, CLOSE_SECONDS)
        command = run_link_command(argv, seconds, volume=self._around.volume)
        self._running = get_running_loop().create_task(command)
        await wait((self._running,))
        if self._running.cancelled():
            raise LinkCommandError(argv[0], "was killed: the volume is being closed")
        self._running.result()

    async def _run_down(self) -> None:
        assert self._record is not None
        self.state = LinkState.GOING_DOWN
        try:
            await self._run(self._record["down"], self._record["timeout_seconds"])
        except LinkCommandError as error:
            self.state = LinkState.UNKNOWN
            command = down_command(self._around.volume)
            outcome = f"The link counts as up. Take it down with: {command}"
            self.problem = replace(error, outcome=outcome)
            raise self.problem from error
        self.state, self.problem, self._record = LinkState.DOWN, None, None
        self._around.events.add("command", "The bulk link was taken down.")
        await self._around.commit_facts({FACT: None})

    # --- the admin's verbs ----------------------------------------------------------------

    async def use(self, settings: LinkSettings) -> None:
        """Take *settings* from now on, and bring the link up for a snapshot that is attached next.

        Raises LinkCommandError or StateWriteError; the link is down then, if that could be done.
        """
        if self._record is not None and settings != self.settings:
            await self.take_down()  # with the command that belongs to it
        self.settings = settings
        await self.bring_up()

    async def give_up(self) -> None:
        """Nothing was attached after all: take the link down. Never raises."""
        await self._quietly(self.take_down())
        self.settings = LinkSettings()

    async def ended(self) -> None:
        """Wait until what runs has ended. Raises LinkCommandError if the link is not down then."""
        await gather(*self._tasks)
        if self.problem is not None and self._record is not None:
            raise self.problem

    async def down(self) -> None:
        """Take the link down because the admin says so.

        Raises:
            WrongStateError: the merge runs, or the link is down. LinkCommandError: as
                ``take_down``.
        """
        verb = "take the bulk link down"
        if self._around.merge_state() is MergeState.RUNNING:
            raise WrongStateError(self._around.volume, verb, "the merge runs; pause it first")
        if self._record is None:
            raise WrongStateError(self._around.volume, verb, "no command has brought it up")
        await self.take_down()

    # --- by itself ------------------------------------------------------------------------

    def take_up(self, settings: LinkSettings) -> None:
        """After a restart: take down what may be up, then bring it up if the merge goes on."""
        self.settings = settings
        self._merge = self._around.merge_state()
        if self._record is not None or self._is_wanted():
            self._spawn(self._recover())

    async def _recover(self) -> None:
        if self._record is not None:
            self._warn("the bulk link may be up; it is taken down")
            await self.take_down()
        if self._is_wanted():
            await self._try_again()

    def merge_changed(self) -> None:
        """Take the link down if the merge has ended. Cheap when nothing changed."""
        before, self._merge = self._merge, self._around.merge_state()
        is_over = self._merge in (MergeState.DONE, MergeState.IDLE)
        if self._merge is not before and is_over and self._record is not None:
            self._spawn(self.take_down())

    def snapshot_changed(self, reachable: bool) -> None:
        """The snapshot's session came up or was lost."""
        if reachable:
            self._stop_redialling()
        else:
            self._expect_snapshot()

    def _is_wanted(self) -> bool:
        running = self._around.merge_state() is MergeState.RUNNING
        return self.has_commands and running and not self._is_closed

    def _expect_snapshot(self) -> None:
        """Bring the link up again if the snapshot stays away."""
        snapshot = self._around.snapshot()
        is_away = snapshot is None or not snapshot.is_reachable
        if self._redial is None and is_away and self.has_commands and not self._is_closed:
            self._redial = get_running_loop().call_later(self._pause, self._redial_due)

    def _redial_due(self) -> None:
        self._redial = None
        if self._is_wanted():
            self._spawn(self._try_again())

    async def _try_again(self) -> None:
        snapshot = self._around.snapshot()
        if snapshot is not None and snapshot.is_reachable:
            return
        self._pause = min(2 * self._pause, REDIAL_SECONDS_MAX)
        try:
            await self.bring_up(again=True)
        finally:
            self._expect_snapshot()

    def _stop_redialling(self) -> None:
        self._pause = REDIAL_SECONDS
        if self._redial is not None:
            self._redial.cancel()
            self._redial = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = get_running_loop().create_task(self._quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        """Nobody waits for *work*: what it fails with goes to the log and to the events."""
        try:
            await work
        except (LinkCommandError, StateWriteError) as error:
            self._warn(str(error))
            self._around.events.add("command_failed", str(error))

    def _warn(self, sentence: str) -> None:
        log.warning(log_line(sentence, volume=self._around.volume, operation="link"))

    async def close(self) -> None:
        """Take the link down if that takes not too long. Never raises."""
        self._is_closed = True
        self._stop_redialling()
        if self._running is not None and self.state is LinkState.COMING_UP:
            self._running.cancel()
        await gather(*self._tasks)
        async with self._lock:
            if self._record is not None:
                await self._quietly(self._run_down())

    def status(self) -> dict[str, Any] | None:
        """Return the link's part of the status document; None where no command belongs to it."""
        if not self.has_commands and self._record is None:
            return None
        down = down_command(self._around.volume) if self._record else ""
        reason = str(self.problem or "")
        return {"state": self.state.value, "reason": reason, "take_down": down}


def closed_status(volume: str, record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the same of a volume that is not open and has *record* as its FACT."""
    if record is None:
        return None
    state = LinkState.UNKNOWN.value
    return {"state": state, "reason": "", "take_down": down_command(volume)}


def down_command(volume: str) -> str:
    """Return what an admin types to take the link down."""
    return f"tcmu-restore link down {volume}"


async def take_down_recorded(record: dict[str, Any]) -> None:
    """Take down the link of a FACT that a volume which is not open has. Raises LinkCommandError."""
    await run_link_command(record["down"], record["timeout_seconds"])
