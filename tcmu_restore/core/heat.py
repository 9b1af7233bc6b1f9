"""Which parts of a volume hosts access most: a small decaying count by chunk.

A guess at what hosts will read next. Only the merge's order depends on it, so that after a loss
what they read is local first; a wrong count, or none, costs time and never data.

Bounded, whatever the volume: at most COUNTED_MAX chunks are remembered, the coldest give way, and
chunks grow with the volume. ``python -m tests.bench.heat_cost`` measures what it costs a command.
"""

from __future__ import annotations

from typing import Any

from .geometry import Geometry

CHUNK_SIZE_MIN = 1 << 20
"""Bytes. As long as the merge's largest step: less would cut its steps short."""

CHUNKS_MAX = 1 << 20
"""Chunks a volume: above a tebibyte they are larger, 64 MiB at 64 TiB."""

COUNTED_MAX = 8192
"""Chunks with a count: 8 GiB of a volume of up to a tebibyte, half a tebibyte of one of 64."""

COUNT_MAX = 1 << 53
"""What is read from a state file is no larger: JSON's exact numbers."""

HALF_LIFE_SECONDS = 3600.0
"""Counts are halved once an hour, and only if it brought as many accesses as were remembered: a
quiet weekend forgets nothing."""

HOT_MIN = 4
HOT_FACTOR = 2
"""A chunk is hot with this many accesses, and so many times the volume's mean. Where hosts read
everywhere alike nothing is hot, and the merge goes in order."""


class Heat:
    """Counts of one volume. A run of accesses to one chunk counts once: a scan is not hot."""

    def __init__(self, geometry: Geometry, *, chunk_size: int | None = None) -> None:
        self._geometry = geometry
        self.size = geometry.size
        """Bytes of the volume."""
        self.chunk_size = chunk_size or _chunk_size(geometry)
        """Bytes; a power of two, not below the region size."""
        self._shift = self.chunk_size.bit_length() - 1
        assert self.chunk_size == 1 << self._shift >= geometry.region_size
        self._counts: dict[int, int] = {}
        self._previous = -1
        """The chunk of the last access."""
        self._old = 0
        self._fresh = 0
        """Accesses up to the last halving, halved as the counts are, and those since."""
        self._halved_at: float | None = None

    @property
    def accesses(self) -> int:
        """How many accesses are remembered, decayed; those of forgotten chunks included."""
        return self._old + self._fresh

    @property
    def chunk_count(self) -> int:
        """How many chunks the volume has, a shorter last one included."""
        return -(-self._geometry.size // self.chunk_size)

    def grow(self, geometry: Geometry) -> None:
        """The volume has grown; its chunks grow when it is opened the next time."""
        self._geometry, self.size = geometry, geometry.size

    def regions_of(self, chunk: int) -> range:
        """Return the indices of the regions in *chunk*."""
        count = self.chunk_size // self._geometry.region_size
        return range(chunk * count, min((chunk + 1) * count, self._geometry.region_count))

    # --- counting ------------------------------------------------------------------------

    def count(self, offset: int, length: int) -> None:
        """A host reads or writes *length* bytes at *offset*, all within the volume."""
        chunk = offset >> self._shift
        last = (offset + length - 1) >> self._shift
        if chunk == self._previous:
            if chunk == last:
                return
            chunk += 1
        self._previous = last
        self._fresh += last + 1 - chunk
        counts = self._counts
        while chunk <= last:
            counts[chunk] = counts.get(chunk, 0) + 1
            chunk += 1
        if len(counts) > COUNTED_MAX:
            self._forget_coldest()

    def _forget_coldest(self) -> None:
        """Forget a quarter at least, and all that are no hotter than those."""
        coldest = sorted(self._counts.values())[COUNTED_MAX // 4]
        self._counts = {chunk: count for chunk, count in self._counts.items() if count > coldest}

    def decay(self, now: float) -> None:
        """Halve the counts if it is time; *now* is seconds from any fixed origin."""
        if self._halved_at is None:
            self._halved_at = now
        if now - self._halved_at < HALF_LIFE_SECONDS or self._fresh < self._old:
            return
        self._counts = {chunk: count // 2 for chunk, count in self._counts.items() if count > 1}
        self._old, self._fresh, self._halved_at = self.accesses // 2, 0, now

    # --- what is hot -----------------------------------------------------------------------

    def hot_chunks(self) -> list[int]:
        """Return the indices of the hot chunks, the hottest first. Cost: 1 ms at the most."""
        least = max(HOT_MIN, HOT_FACTOR * self.accesses / self.chunk_count)
        hot = [(-count, chunk) for chunk, count in self._counts.items() if count >= least]
        return [chunk for _, chunk in sorted(hot)]

    def by_cell(self, cells: int) -> list[int]:
        """Return the accesses by part of the volume, of *cells* equal parts.

        A chunk counts in each part that it reaches into.
        """
        found = [0] * cells
        total = self._geometry.region_count
        for chunk, count in self._counts.items():
            regions = self.regions_of(chunk)
            first, last = regions.start * cells // total, (regions.stop - 1) * cells // total
            for cell in range(first, last + 1):
                found[cell] += count
        return found

    # --- kept with the state ---------------------------------------------------------------

    def as_fact(self) -> dict[str, Any]:
        """Return a JSON value for ``restore``; each chunk as its distance from the one before."""
        flat: list[int] = []
        before = 0
        for chunk, count in sorted(self._counts.items()):
            flat += (chunk - before, count)
            before = chunk
        return {"chunk_size": self.chunk_size, "accesses": self.accesses, "counts": flat}

    def restore(self, fact: object) -> None:
        """Take over what ``as_fact`` gave; anything else is passed over, as are other chunks."""
        match fact:
            case {"chunk_size": self.chunk_size, "accesses": int(accesses), "counts": [*flat]}:
                if len(flat) <= 2 * COUNTED_MAX and all(map(_is_count, (accesses, *flat))):
                    self._restore(accesses, flat)

    def _restore(self, accesses: int, flat: list[int]) -> None:
        chunk = 0
        for distance, count in zip(flat[::2], flat[1::2], strict=False):
            chunk += distance
            if chunk < self.chunk_count and count:
                self._counts[chunk] = count
        self._old = accesses


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= COUNT_MAX


def _chunk_size(geometry: Geometry) -> int:
    size = max(CHUNK_SIZE_MIN, geometry.region_size)
    while geometry.size > size * CHUNKS_MAX:
        size *= 2
    return size
