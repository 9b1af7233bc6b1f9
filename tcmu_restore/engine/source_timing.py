"""Measures the sources of one volume, and says which one a lost region is asked of.

Each read of the backup and of the snapshot is timed. The source that is not
asked is probed now and then with a small read whose bytes are thrown away, so
no host waits for a slow source, and one that became fast is noticed.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..core.buffer import Buffers, buffers_of
from ..core.effects import Leg
from ..core.extent import Extent
from ..core.readahead import Readahead
from ..core.source_choice import SourceChoice, other_than
from ..sources.base import BlockSource
from .rate_meter import RateMeter

PROBE_LENGTH: Final = 4096
"""Bytes of a probe: over 56 kbit/s they take 0.6 s, once in some seconds."""

AHEAD_SECONDS: Final = 0.25
"""A fetch is extended by at most what the source sends in this time; over a telephone line that is
less than a region, and a host's read is not made longer."""


class SourceTiming:
    """What was measured of the backup and of the snapshot of one volume.

    *source_of* gives the source behind a leg, or None; *size_of* the volume's bytes.
    """

    def __init__(
        self,
        source_of: Callable[[Leg], BlockSource | None],
        readahead: Readahead,
        size_of: Callable[[], int],
    ) -> None:
        self.choice = SourceChoice()
        self._source_of = source_of
        self._readahead = readahead
        self._ahead_max = readahead.length_max
        self._size_of = size_of
        self._meters = {Leg.BACKUP: RateMeter(), Leg.SNAPSHOT: RateMeter()}
        self._probes: set[Leg] = set()

    def first_source(self, extent: Extent) -> Leg:
        """Return whom to ask for *extent*, which both sources may serve."""
        if not self._is_reachable(Leg.SNAPSHOT):
            return Leg.BACKUP
        if not self._is_reachable(Leg.BACKUP):
            return Leg.SNAPSHOT
        first = self.choice.choose(extent.length)
        self._probe(other_than(first), extent.offset)
        return first

    def read(self, leg: Leg, source: BlockSource, offset: int, buffers: Buffers) -> Future[None]:
        """Read from *source* and note how long it took."""
        future = source.read_into(offset, buffers)
        if leg in self._meters:
            length = sum(map(len, buffers))
            future.add_done_callback(partial(self._read_ended, leg, length, _now()))
        return future

    def _read_ended(self, leg: Leg, length: int, began: float, future: Future[None]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        now = _now()
        self._meters[leg].add(length, now)
        self.choice.read_ended(leg, length, seconds=now - began, now=now)
        if leg is self.choice.first:
            goodput = self.choice.speeds[leg].goodput or 0.0
            self._readahead.length_max = min(self._ahead_max, int(goodput * AHEAD_SECONDS))

    def forget(self, leg: Leg) -> None:
        """The link to *leg* came back: it may be another one."""
        self.choice.forget(leg)

    def status(self, leg: Leg) -> dict[str, Any]:
        """Return what the status document says of *leg*."""
        latency = self.choice.speeds[leg].latency_seconds
        return {
            "read_latency_ms": None if latency is None else latency * 1000,
            "read_rate_bytes_per_second": self._meters[leg].rate(_now()),
            "asked_first": leg is self.choice.first,
        }

    def _probe(self, leg: Leg, offset: int) -> None:
        source = self._source_of(leg)
        if source is None or leg in self._probes or not self.choice.is_probe_due(leg, _now()):
            return
        self._probes.add(leg)
        start = offset // PROBE_LENGTH * PROBE_LENGTH
        memory = bytearray(min(PROBE_LENGTH, self._size_of() - start))
        probe = self.read(leg, source, start, buffers_of(memory))
        probe.add_done_callback(partial(self._probe_ended, leg))

    def _probe_ended(self, leg: Leg, probe: Future[None]) -> None:
        self._probes.discard(leg)
        if not probe.cancelled():
            probe.exception()  # whoever reads in earnest will say it

    def _is_reachable(self, leg: Leg) -> bool:
        source = self._source_of(leg)
        return source is not None and source.is_reachable


def _now() -> float:
    return get_running_loop().time()
