"""Which of two sources answers a lost region's read sooner, as far as was measured.

Pure: durations and times come in as numbers of seconds. It never says which
source is *allowed*: that is ``fetching``'s, and in doubt only the backup is.

A read is taken to last a latency plus its bytes times a slope. The latency is
learned from small reads, the slope from large ones; both follow a change within
some reads. The other source is taken only when it is clearly faster, so two
that are alike do not take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .effects import Leg

SMALL: Final = 32 * 1024
"""Bytes. Shorter reads tell the latency, longer ones the slope."""

WEIGHT: Final = 0.25
"""Of one new measurement: after eight reads nine tenths of a change are seen."""

JUMP: Final = 2.0
"""Two small reads in a row that are so many times quicker or slower are no chance: the link is
another one, and the average jumps. A source that is only probed would else be slow for minutes."""

CLEARLY: Final = 0.7
"""The other source is taken when its read is expected to last at most this share."""

PROBE_SECONDS: Final = 5.0
"""A source that no small read was asked of for so long is probed, if a host reads lost regions."""

GOODPUT_DECAY: Final = 0.9
"""The best rate seen counts less with each read that was slower."""


@dataclass(slots=True)
class SourceSpeed:
    """What was measured of one source."""

    latency_seconds: float | None = None
    """Of a small read; None before the first."""

    slope: float = 0.0
    """Seconds a byte beyond the latency."""

    goodput: float | None = None
    """Bytes a second that a single read has had lately, at best; None before the first."""

    measured_at: float | None = None
    """When the last small read ended."""

    _last: float = 0.0

    def note(self, length: int, seconds: float, now: float) -> None:
        """A read of *length* bytes took *seconds*."""
        rate = length / max(seconds, 1e-6)
        self.goodput = max(rate, (self.goodput or 0.0) * GOODPUT_DECAY)
        if length <= SMALL:
            self.measured_at = now
            self.latency_seconds = self._smoothed(seconds)
            self._last = seconds
        else:
            beyond = max(0.0, seconds - (self.latency_seconds or 0.0)) / length
            self.slope += (beyond - self.slope) * WEIGHT if self.slope else beyond

    def _smoothed(self, seconds: float) -> float:
        known = self.latency_seconds
        if known is None:
            return seconds
        low, high = sorted((seconds, self._last))
        if high < known / JUMP:
            return high
        if low > known * JUMP:
            return low
        return known + (seconds - known) * WEIGHT

    def expected(self, length: int) -> float | None:
        """Return the seconds that a read of *length* bytes should take, or None: not known."""
        if self.latency_seconds is None:
            return None
        return self.latency_seconds + length * self.slope


class SourceChoice:
    """The speeds of the backup and of the snapshot, and which one is asked first."""

    def __init__(self) -> None:
        self.speeds = {Leg.BACKUP: SourceSpeed(), Leg.SNAPSHOT: SourceSpeed()}
        self.first = Leg.BACKUP
        """Who was chosen last."""

    def read_ended(self, leg: Leg, length: int, *, seconds: float, now: float) -> None:
        """A read of *leg* ended well."""
        self.speeds[leg].note(length, seconds, now)

    def forget(self, leg: Leg) -> None:
        """*leg* is another source now, or its link may be another one."""
        self.speeds[leg] = SourceSpeed()
        if leg is Leg.SNAPSHOT:
            self.first = Leg.BACKUP

    def choose(self, length: int) -> Leg:
        """Return the leg to ask for *length* bytes, both being allowed and reachable."""
        other = other_than(self.first)
        known, hoped = (self.speeds[leg].expected(length) for leg in (self.first, other))
        if known is not None and hoped is not None and hoped < known * CLEARLY:
            self.first = other
        return self.first

    def is_probe_due(self, leg: Leg, now: float) -> bool:
        """Whether too little is known of *leg*, which is not the one that is asked."""
        measured_at = self.speeds[leg].measured_at
        return measured_at is None or now - measured_at >= PROBE_SECONDS


def other_than(leg: Leg) -> Leg:
    """Return the snapshot for the backup, and the other way round."""
    return Leg.SNAPSHOT if leg is Leg.BACKUP else Leg.BACKUP
