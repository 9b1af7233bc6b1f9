"""Tells a connection that is slow from one that is dead, by the bytes that its kernel has moved.

Pure: times and counts come in as numbers. Over 56 kbit/s a host's write of 64 KiB takes nine
seconds in which the target has nothing to say, and a queue of reads takes longer still.
"""

from __future__ import annotations

from typing import Final

MOVED_MIN: Final = 1024
"""Bytes. Keepalives alone, of 48 bytes each, do not count as a line that carries something."""


class LineWatch:
    """One connection. Seconds are counted from any fixed origin."""

    __slots__ = ("_looked_at", "_mark", "_marked_at", "_window_seconds", "is_moving", "moved")

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._looked_at: float | None = None
        self._mark = 0
        self._marked_at = 0.0
        self.moved = 0
        """Bytes acknowledged and received, as of the last look."""
        self.is_moving = False
        """Whether at least MOVED_MIN bytes moved within the last window."""

    def look(self, moved: int, now: float) -> float:
        """Note that *moved* bytes have moved so far; return the seconds since the last look."""
        passed = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        self.moved = moved
        if moved - self._mark >= MOVED_MIN:
            self._mark, self._marked_at = moved, now
            self.is_moving = True
        elif now - self._marked_at >= self._window_seconds:
            self._mark, self._marked_at = moved, now
            self.is_moving = False
        return passed
