"""A rate over the last seconds, for people."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 10.0
"""Long enough to be steady, short enough to follow a link that changes."""


class RateMeter:
    """Bytes a second over the last WINDOW_SECONDS. Times are seconds from any fixed origin."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, length: int, now: float) -> None:
        """*length* bytes are done."""
        self._samples.append((now, length))
        self._forget(now)

    def clear(self) -> None:
        """Begin anew."""
        self._samples.clear()

    def rate(self, now: float) -> float:
        """Return bytes a second; 0 if nothing was done lately."""
        self._forget(now)
        if len(self._samples) < 2:  # noqa: PLR2004 - a span has two ends
            return 0.0
        (first, before), (last, _) = self._samples[0], self._samples[-1]
        if last <= first:
            return 0.0
        return (sum(length for _, length in self._samples) - before) / (last - first)

    def _forget(self, now: float) -> None:
        while self._samples and self._samples[0][0] < now - WINDOW_SECONDS:
            self._samples.popleft()
