"""Simulated stores: a volatile write cache over durable bytes, torn writes, all kinds of faults."""

from __future__ import annotations

from random import Random

from tcmu_restore.core.extent import Extent
from tcmu_restore.errors import SourceFlushError, SourceReadError, SourceWriteError

UNIT = 512


class SimStore:
    """Reads see the cache. A power cut keeps, drops or tears each unflushed write by itself."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self.durable = bytearray(content)
        self.cached = bytearray(content)
        self.unflushed: list[tuple[int, bytes]] = []
        self.bad: set[int] = set()
        """Units that cannot be read until they are written."""
        self.was_bad: set[int] = set()
        """Units that could not be read since they were last written."""
        self.fails_writes = False
        self.fails_flushes = False
        self.is_away = False
        """Pulled out of its slot."""
        self.is_closed_by_kernel = False
        """It was away since it was opened: that descriptor stays useless."""

    def grow(self, content: bytes) -> None:
        """Give it more bytes, which hold *content*."""
        self.durable += content
        self.cached += content

    @property
    def is_dead(self) -> bool:
        return self.is_away or self.is_closed_by_kernel

    def pull(self, rng: Random) -> None:
        self.power_cut(rng)
        self.is_away = self.is_closed_by_kernel = True

    def read(self, extent: Extent) -> bytes:
        if self.is_dead or (self.bad and not self.bad.isdisjoint(_units(extent))):
            raise SourceReadError(self.name, "simulated")
        return bytes(self.cached[extent.offset : extent.end])

    def write(self, offset: int, data: bytes, rng: Random) -> None:
        if self.is_dead:
            raise SourceWriteError(self.name, "simulated: dead")
        if self.fails_writes:
            torn = rng.randrange(len(data) // UNIT + 1) * UNIT
            self._put(offset, data[:torn])
            raise SourceWriteError(self.name, "simulated")
        self._put(offset, data)

    def _put(self, offset: int, data: bytes) -> None:
        if data:
            self.cached[offset : offset + len(data)] = data
            self.unflushed.append((offset, data))
            if self.was_bad:
                self.bad.difference_update(_units(Extent(offset, len(data))))
                self.was_bad.difference_update(_units(Extent(offset, len(data))))

    def spoil(self, unit: int) -> None:
        self.bad.add(unit)
        self.was_bad.add(unit)

    def flush(self, rng: Random) -> None:
        if self.is_dead or self.fails_flushes:
            self._settle(rng)
            raise SourceFlushError(self.name, "simulated")
        for offset, data in self.unflushed:
            self.durable[offset : offset + len(data)] = data
        self.unflushed.clear()

    def reopen(self, rng: Random) -> None:
        """Flush it and drop clean pages, as opening does: after a failed flush they are lies."""
        self.is_closed_by_kernel = False
        self.flush(rng)
        self.cached[:] = self.durable

    def power_cut(self, rng: Random) -> None:
        self._settle(rng)
        self.cached[:] = self.durable

    def _settle(self, rng: Random) -> None:
        """What was not flushed may have got there, or not, or in part."""
        for offset, data in self.unflushed:
            fate = rng.random()
            for start in range(0, len(data), UNIT):
                if fate < 0.4 or (fate > 0.7 and rng.random() < 0.5):
                    self.durable[offset + start : offset + start + UNIT] = data[start:][:UNIT]
        self.unflushed.clear()

    def possible(self, unit: int) -> set[bytes]:
        """What the unit may hold after power cuts to come."""
        start = unit * UNIT
        found = {
            bytes(self.durable[start : start + UNIT]),
            bytes(self.cached[start : start + UNIT]),
        }
        for offset, data in self.unflushed:
            if offset <= start < offset + len(data):
                found.add(data[start - offset :][:UNIT])
        return found

    def heal(self) -> None:
        self.bad.clear()
        self.fails_writes = self.fails_flushes = False


def _units(extent: Extent) -> range:
    return range(extent.offset // UNIT, extent.end // UNIT)
