"""Counts accesses, lets the counts decay, and keeps them with the state: seldom."""

from __future__ import annotations

from asyncio import Future, TimerHandle, get_running_loop
from typing import Any

from ..core.heat import Heat
from .command import Command, CommandKind
from .state_db import StateDb

KEEP_SECONDS = 300.0
"""One small commit in so long, if there were accesses. A crash costs the counts since the last."""

COUNTED = frozenset({CommandKind.READ, CommandKind.WRITE, CommandKind.COMPARE_AND_WRITE})


class HeatKeeper:
    """Counts the commands of one volume. On the event loop's thread."""

    def __init__(self, heat: Heat, db: StateDb) -> None:
        self._heat = heat
        self._db = db
        self._kept = heat.accesses
        """What *heat* counted when it was kept last."""
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Begin; the first commit comes after KEEP_SECONDS."""
        self._timer = get_running_loop().call_later(KEEP_SECONDS, self._tick)

    def stop(self) -> None:
        """Commit no more; the caller keeps ``facts`` with its last commit."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def count(self, command: Command) -> None:
        """Count *command* if it reads or writes, within the volume."""
        if command.kind in COUNTED and 0 < command.length <= self._heat.size - command.offset:
            self._heat.count(command.offset, command.length)

    def facts(self) -> dict[str, Any]:
        """Return what is to be kept."""
        self._kept = self._heat.accesses
        return {"heat": self._heat.as_fact()}

    def _tick(self) -> None:
        self.start()
        self._heat.decay(get_running_loop().time())
        if self._heat.accesses != self._kept:
            self._db.commit_facts(self.facts()).add_done_callback(_ended)


def _ended(committed: Future[None]) -> None:
    """A failure costs these counts only; the next commit tells the admin that the file is full."""
    if not committed.cancelled():
        committed.exception()
