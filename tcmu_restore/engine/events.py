"""The last events of one open volume, for people who look at its status.

In memory only, and only the last few: the log has them all, and keeps them over a restart. Used on
the event loop's thread. Nothing depends on what is written here.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import RestoreError
from ..log_line import log_line
from ..text import printable

if TYPE_CHECKING:
    from .volume_engine import VolumeEngine

log = logging.getLogger(__name__)

EVENTS_MAX = 50
"""Events kept a volume: some screens full; the oldest gives way."""

REPEAT_SPAN = 6
"""An event that is the same as one of the last few only counts up: a volume that keeps going from
one condition to another and back must not push out what else happened."""


_LOGGED = {"merge": logging.INFO, "command": logging.INFO, "command_failed": logging.WARNING}
"""Conditions are logged with their advice, where they are found."""


@dataclass(frozen=True, slots=True)
class Event:
    """*time* is when it last happened, ISO 8601 in UTC; *word* is its kind, for programs."""

    time: str
    word: str
    sentence: str
    count: int = 1


def _now() -> datetime:
    return datetime.now(UTC)


class EventLog:
    """A ring of events, and what it was told last of the conditions and of the merge."""

    def __init__(self, volume: str, wall_clock: Callable[[], datetime] = _now) -> None:
        self._volume = volume
        self._wall_clock = wall_clock
        self._events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self._conditions: list[str] = []
        self._merge = ("idle", "")

    def add(self, word: str, sentence: str) -> None:
        """Keep an event that happens now, and log it if nobody else does."""
        sentence = printable(sentence)
        if word in _LOGGED:
            log.log(_LOGGED[word], log_line(sentence, volume=self._volume, operation=word))
        event = Event(self._wall_clock().isoformat(timespec="seconds"), word, sentence)
        for index in range(max(0, len(self._events) - REPEAT_SPAN), len(self._events)):
            known = self._events[index]
            if (known.word, known.sentence) == (word, sentence):
                del self._events[index]
                event = replace(event, count=known.count + 1)
                break
        self._events.append(event)

    def observe(self, engine: VolumeEngine, conditions: list[str]) -> None:
        """Keep what began or ended since the last call. Cheap when nothing did."""
        if conditions != self._conditions:
            reasons = _reasons(engine)
            for word in self._conditions:
                if word not in conditions and word != "in_sync":
                    self.add("condition_ended", f"No longer {_spoken(word)}.")
            for word in conditions:
                if word not in self._conditions:
                    self.add(
                        "condition_began", _sentence(f"Now {_spoken(word)}", reasons.get(word, ""))
                    )
            self._conditions = list(conditions)
        merge = (engine.merge.state.value, engine.merge.reason)
        if merge != self._merge:
            self._merge = merge
            self.add("merge", _sentence(f"The merge is {merge[0]}", merge[1]))

    @contextmanager
    def verb(self, what: str) -> Iterator[None]:
        """Keep that an admin's command was carried out within the block, or why it was not."""
        try:
            yield
        except RestoreError as error:
            self.add("command_failed", _sentence(f"Command failed, {what}", str(error)))
            raise
        self.add("command", f"Command: {what}.")

    def as_list(self) -> list[dict[str, str | int]]:
        """Return the events, the oldest first, as the status document has them."""
        return [asdict(event) for event in self._events]


def _spoken(word: str) -> str:
    return word.replace("_", " ")


def _sentence(what: str, reason: str) -> str:
    return f"{what}: {reason.rstrip('.')}." if reason else f"{what}."


def _reasons(engine: VolumeEngine) -> dict[str, str]:
    """Return why each condition holds, where the engine knows more than that it does."""
    failure = engine.volume.state.primary_failure
    causes = {
        "fenced": engine.mistake,
        "failed": failure,
        "diskless": failure,
        "degraded": engine.backup.last_error,
        "state_full": engine.db.last_error,
    }
    return {word: str(cause) for word, cause in causes.items() if cause is not None}
