"""Simulated stores: a volatile write cache over durable bytes, with torn and dropped writes."""

from __future__ import annotations

from random import Random

from tcmu_restore.core.extent import Extent

UNIT = 512


class SimStore:
    """Reads see the cache. A power cut keeps, drops or tears each unflushed write by itself."""

    def __init__(self, content: bytes) -> None:
        self.durable = bytearray(content)
        self.cached = bytearray(content)
        self.unflushed: list[tuple[int, bytes]] = []

    def write(self, offset: int, data: bytes) -> None:
        self.cached[offset : offset + len(data)] = data
        self.unflushed.append((offset, data))

    def read(self, extent: Extent) -> bytes:
        return bytes(self.cached[extent.offset : extent.end])

    def flush(self) -> None:
        self.durable[:] = self.cached
        self.unflushed.clear()

    def power_cut(self, rng: Random) -> None:
        for offset, data in self.unflushed:
            fate = rng.random()
            for start in range(0, len(data), UNIT):
                if fate < 0.4 or (fate > 0.7 and rng.random() < 0.5):
                    self.durable[offset + start : offset + start + UNIT] = data[start:][:UNIT]
        self.unflushed.clear()
        self.cached[:] = self.durable
