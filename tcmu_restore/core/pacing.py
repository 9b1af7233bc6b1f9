"""How fast background work may go: a controller on what hosts feel, not a fixed rate.

Pure: time comes in as a number of seconds from any fixed origin, rates are
bytes a second. ``Pacer`` decides when the next background transfer may begin,
``StepSizer`` how large it is and how many are in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

WINDOW_SECONDS = 0.25
"""The rate is looked at once in so long; a few dozen commands of a busy host."""

PROBE_WINDOWS = 40
"""Each so many windows one is left free of background work, to learn how fast commands are without
it. Costs 2.5 %, and only while a host is active."""

SLOWDOWN_MAX = 2.0
SLACK_SECONDS = 0.001
"""Commands may take this many times as long as without background work, and this much more."""

BACK_OFF = 0.7
SPEED_UP = 1.2

START_RATE = 64 << 20


class Pacer:
    """Keeps hosts' commands at most about twice as slow as without background work.

    Between *floor* and *ceiling*: restoring must end one day, however busy the hosts are.
    """

    def __init__(self, *, floor: float, ceiling: float) -> None:
        self._floor, self._ceiling = floor, ceiling
        self.rate = max(floor, min(START_RATE, ceiling))
        self.baseline: float | None = None
        """Seconds a command takes without background work, as far as is known."""
        self._window_end = 0.0
        self._windows = 0
        self._count = 0
        self._seconds = 0.0
        self._next_step = 0.0

    @property
    def _is_probe(self) -> bool:
        return self._windows % PROBE_WINDOWS == 0

    def command_ended(self, seconds: float, now: float) -> None:
        """A host's command took *seconds*."""
        self._turn(now)
        self._count += 1
        self._seconds += seconds

    def delay(self, length: int, now: float) -> float:
        """Return the seconds to wait before a background transfer of *length* bytes begins.

        0 means: begin now; the bytes count as sent.
        """
        self._turn(now)
        if self._is_probe and self._count and now < self._window_end:
            return self._window_end - now
        if self._next_step > now:
            return self._next_step - now
        self._next_step = now + length / self.rate
        return 0.0

    def _turn(self, now: float) -> None:
        """Judge the window that is over."""
        if now < self._window_end:
            return
        mean = self._seconds / self._count if self._count else None
        if mean is None:
            self.rate = min(self._ceiling, self.rate * 2)
        elif self._is_probe or self.baseline is None:
            known = mean if self.baseline is None else self.baseline
            self.baseline = (known + mean) / 2
        elif mean > SLOWDOWN_MAX * self.baseline + SLACK_SECONDS:
            self.rate = max(self._floor, self.rate * BACK_OFF)
        else:
            self.rate = min(self._ceiling, self.rate * SPEED_UP)
        self._count, self._seconds = 0, 0.0
        self._windows += 1
        self._window_end = now + WINDOW_SECONDS


class Pace(Protocol):
    """Says when the next background transfer may begin."""

    def delay(self, length: int, now: float) -> float:
        """Return the seconds to wait; 0: begin now, the bytes count as sent."""


class CeilingPacer:
    """A ``Pacer`` for one link, with a ceiling of its own below which the pacer's rate counts.

    *rate_max* gives bytes a second, or None for no ceiling; it may change at any time.
    """

    def __init__(self, pacer: Pacer, rate_max: Callable[[], int | None]) -> None:
        self._pacer = pacer
        self._rate_max = rate_max
        self._free_at = 0.0

    def delay(self, length: int, now: float) -> float:
        """Return the seconds to wait; 0: begin now, the bytes count as sent."""
        rate_max = self._rate_max()
        if rate_max is None:
            return self._pacer.delay(length, now)
        if self._free_at > now:
            return self._free_at - now
        delay = self._pacer.delay(length, now)
        if delay <= 0:
            self._free_at = now + length / rate_max
        return delay


STEP_START = 16 * 1024
"""Over 56 kbit/s this takes 2.3 s: well below any command's deadline."""

QUICK_SECONDS = 0.5
SLOW_SECONDS = 1.5
"""A step that is over sooner lets the next ones grow, one that takes longer makes them smaller."""


class StepSizer:
    """Learns how much to ask of a source at once, from how long it took the last times."""

    def __init__(self, *, length_min: int, length_max: int, depth_max: int) -> None:
        self._length_min = length_min
        self._length_max = length_max
        self._depth_max = depth_max
        self.length = max(length_min, min(STEP_START, length_max))
        """Bytes of the next step."""
        self.depth = 1
        """Steps in flight at once."""
        self.is_slow = False
        """Whether a host would feel to wait behind one step: the last one was not quick."""

    def step_ended(self, length: int, seconds: float) -> None:
        """A step of *length* bytes took *seconds*; one shorter than asked for says little."""
        self.is_slow = seconds >= QUICK_SECONDS
        if seconds > SLOW_SECONDS:
            if self.depth > 1:
                self.depth -= 1
            else:
                self.length = max(self._length_min, self.length // 2)
        elif seconds < QUICK_SECONDS and length >= self.length // 2:
            if self.length < self._length_max:
                self.length = min(self._length_max, self.length * 2)
            else:
                self.depth = min(self._depth_max, self.depth + 1)

    def step_failed(self) -> None:
        """A step failed: begin again with small ones, the link may be another one now."""
        self.length = max(self._length_min, min(STEP_START, self._length_max))
        self.depth = 1
