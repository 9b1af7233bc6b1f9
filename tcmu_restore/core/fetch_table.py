"""Bytes of lost regions on their way here, shared by everyone who waits for them.

A fetch belongs to no lock: a host write never waits for one (RD-2). Instead a
write *spoils* the overlapping regions of every fetch in flight, when it begins
and again when it ends. A spoiled region is not populated from that fetch, and
a read that comes later does not join it (RD-1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pyroaring import BitMap64

from ..errors import RestoreError
from .buffer import Buffers, buffers_of
from .effects import Leg
from .extent import Extent
from .gate import Gate
from .geometry import Geometry


@dataclass(slots=True, eq=False)
class Fetch:
    """One read of lost regions into memory of its own. *extent* is whole regions."""

    extent: Extent
    memory: bytearray = field(init=False)
    spoiled: BitMap64 = field(default_factory=BitMap64)
    """Regions that are not populated from it, and that nobody who comes now may take from it."""

    doubted: BitMap64 = field(default_factory=BitMap64)
    """Regions that nobody may take from it: the backup may have older bytes than it had."""

    arrived: Gate = field(default_factory=Gate)
    error: RestoreError | None = None
    keep: bool = True
    """False where the backlog is full: answered, but not populated."""

    leg: Leg = Leg.BACKUP
    """Who had the bytes; known when they have arrived."""

    joinable: bool = True
    """False for a background read: a host's read does not wait for the bulk link."""

    def __post_init__(self) -> None:
        self.memory = bytearray(self.extent.length)

    def serves(self, region: int, geometry: Geometry) -> bool:
        """Whether it will hold *region* as a read that comes now must see it."""
        return region in geometry.regions(self.extent) and region not in self.spoiled

    def part(self, extent: Extent) -> Buffers:
        """Return the memory that holds *extent*, which lies within the fetch."""
        assert self.extent.covers(extent)
        start = extent.offset - self.extent.offset
        return buffers_of(memoryview(self.memory)[start : start + extent.length])


class FetchTable:
    """Every fetch from which something may still be populated."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._fetches: list[Fetch] = []

    def grow(self, geometry: Geometry) -> None:
        """The volume has grown to *geometry*; what is being fetched lies within the old one."""
        self._geometry = geometry

    def __iter__(self) -> Iterator[Fetch]:
        return iter(self._fetches)

    @property
    def backlog(self) -> int:
        """Bytes held by all fetches."""
        return sum(fetch.extent.length for fetch in self._fetches)

    def add(self, fetch: Fetch) -> None:
        """Take *fetch* in, before its read is sent."""
        self._fetches.append(fetch)

    def remove(self, fetch: Fetch) -> None:
        """Nothing will be populated from *fetch* any more."""
        self._fetches.remove(fetch)

    def spoil(self, extent: Extent) -> None:
        """A write to *extent* begins or ends."""
        for fetch in self._fetches:
            common = fetch.extent.intersection(extent)
            if common is not None:
                regions = self._geometry.regions(common)
                fetch.spoiled.add_range(regions.start, regions.stop)

    def spoil_regions(self, regions: BitMap64) -> None:
        """The backup may have forgotten what was fetched of *regions* (MIR-2)."""
        for fetch in self._fetches:
            found = regions & BitMap64(self._geometry.regions(fetch.extent))
            fetch.spoiled.update(found)
            fetch.doubted.update(found)

    def joinable(self, region: int) -> Fetch | None:
        """Return a fetch that will hold *region* as a read that comes now must see it."""
        for fetch in self._fetches:
            if not fetch.joinable or fetch.error is not None:
                continue
            if fetch.serves(region, self._geometry):
                return fetch
        return None
