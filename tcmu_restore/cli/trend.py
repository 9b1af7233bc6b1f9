"""What only a look over some time can tell: how fast sources move bytes, how far a resync is.

Pure: statuses and times (seconds from any fixed origin) in, numbers out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from ..service.registry_seam import Traffic, VolumeStatus
from .condition import is_open

WINDOW_SECONDS: Final = 10.0
"""A mean over this long: steady enough to read, fresh enough to follow a link that changes."""

SourceName = Literal["backup", "snapshot"]
_SOURCES: Final[tuple[SourceName, ...]] = ("backup", "snapshot")


@dataclass(frozen=True, slots=True)
class SourceRate:
    """Bytes a second that one source moved."""

    read: float
    written: float


@dataclass(frozen=True, slots=True)
class _Sample:
    time: float
    read: int
    written: int


class Trend:
    """Statuses of one volume, taken in order."""

    def __init__(self) -> None:
        self._samples: dict[SourceName, deque[_Sample]] = {name: deque() for name in _SOURCES}
        self._resync_total = 0

    def take(self, status: VolumeStatus, now: float) -> None:
        """Take a reading of the time *now*."""
        for name in _SOURCES:
            self._take_traffic(name, _traffic(status, name), now)
        resync = status.get("resync")
        left = resync["bytes_left"] if resync is not None else 0
        self._resync_total = max(self._resync_total, left) if left else 0

    def rate(self, name: SourceName) -> SourceRate | None:
        """Return the rate of a source; None before there are two readings."""
        samples = self._samples[name]
        if len(samples) < 2:  # noqa: PLR2004 - a span has two ends
            return None
        first, last = samples[0], samples[-1]
        span = last.time - first.time
        return SourceRate((last.read - first.read) / span, (last.written - first.written) / span)

    def fraction_resynced(self, status: VolumeStatus) -> float | None:
        """Return how much of the resync that was seen is done, 0 to 1; None when there is none."""
        if not self._resync_total:
            return None
        return 1 - status["resync"]["bytes_left"] / self._resync_total

    def _take_traffic(self, name: SourceName, traffic: Traffic | None, now: float) -> None:
        samples = self._samples[name]
        if traffic is None or "read_bytes" not in traffic:
            samples.clear()
            return
        sample = _Sample(now, traffic["read_bytes"], traffic.get("written_bytes", 0))
        if samples and (sample.read < samples[-1].read or sample.written < samples[-1].written):
            samples.clear()  # it was opened anew
        if samples and sample.time <= samples[-1].time:
            return
        samples.append(sample)
        while samples[0].time < now - WINDOW_SECONDS:
            samples.popleft()


def _traffic(status: VolumeStatus, name: SourceName) -> Traffic | None:
    return status[name] if is_open(status) else None
