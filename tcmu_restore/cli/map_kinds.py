"""The kinds of regions as pictures show them: word, letter, colour; and what a cell looks like.

Pure. A cell holds many regions: a kind that somebody should look at shows however few regions are
of it, and else the one that most regions are of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ..service.registry_seam import MapSummary
from ..units import format_size


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind; *name* is the service's word for it, *colour* has the form #rrggbb."""

    name: str
    words: str
    letter: str
    colour: str
    is_alarming: bool = False


KINDS: Final = (
    Kind("current", "current (fetched, merged)", "C", "#2a9d8f"),
    Kind("host_written", "current, host-written", "H", "#1f5fa8"),
    Kind("stale", "current, stale on the backup", "S", "#9b5de5", is_alarming=True),
    Kind("lost", "lost", "L", "#d5d8dc"),
    Kind("in_doubt", "lost, in doubt", "D", "#f4a20b", is_alarming=True),
    Kind("outdated", "lost, outdated", "O", "#d62828", is_alarming=True),
)
"""In the order of a legend; of the alarming ones a later one hides an earlier one."""

_HOT_MIN: Final = 4
_HOT_FACTOR: Final = 2
"""A cell is shown as hot with more accesses than this, and than so many times the mean."""

Cell = Mapping[str, int]
"""Numbers of regions by kind."""


@dataclass(frozen=True, slots=True)
class Map:
    """A map document, with kinds that this program does not know left out."""

    volume: str
    size: int
    region_size: int
    cells: list[Cell]
    accesses: list[int]
    """Host accesses by cell, decayed; empty if the service does not count them."""

    @classmethod
    def of(cls, document: MapSummary) -> Map:
        """Return the map that the service's *document* is."""
        known = {kind.name for kind in KINDS}
        cells: list[Cell] = [
            {
                name: count
                for name, count in zip(document["kinds"], counts, strict=True)
                if name in known
            }
            for counts in document["cells"]
        ]
        accesses = document.get("accesses", [])
        return cls(document["volume"], document["size"], document["region_size"], cells, accesses)

    def offset(self, index: int) -> int:
        """Return where cell *index* begins, in bytes."""
        regions = -(-self.size // self.region_size)
        return index * regions // len(self.cells) * self.region_size

    @property
    def cell_size(self) -> int:
        """Bytes a cell, about."""
        return self.size // len(self.cells)

    def is_hot(self, index: int) -> bool:
        """Return whether hosts access cell *index* far more than most."""
        mean = sum(self.accesses) / len(self.cells)
        return bool(self.accesses) and self.accesses[index] > max(_HOT_FACTOR * mean, _HOT_MIN)

    def total(self, kind: Kind) -> int:
        """Return how many regions of the volume are of *kind*."""
        return sum(cell.get(kind.name, 0) for cell in self.cells)

    def legend(self) -> list[tuple[Kind, str, str]]:
        """Return every kind with its bytes and its share, both for a person."""
        everything = sum(sum(cell.values()) for cell in self.cells)
        rows = []
        for kind in KINDS:
            count = self.total(kind)
            size = format_size(min(count * self.region_size, self.size))
            rows.append((kind, size, format_share(count, everything)))
        return rows

    def title(self, moment: datetime) -> str:
        """Return what stands above a picture that was taken at *moment*."""
        return f"{self.volume}, {format_size(self.size)}, {moment:%Y-%m-%d %H:%M:%S %Z}"


def shown_kind(cell: Cell) -> Kind:
    """Return the kind that a cell is drawn as; see the module's head."""
    alarming = [kind for kind in KINDS if kind.is_alarming and cell.get(kind.name)]
    if alarming:
        return alarming[-1]
    return max(KINDS, key=lambda kind: cell.get(kind.name, 0))


def is_whole(cell: Cell) -> bool:
    """Return whether all regions of a cell are of one kind."""
    return sum(1 for count in cell.values() if count) <= 1


def format_share(count: int, everything: int) -> str:
    """Return a percentage; 0 % and 100 % are said only of nothing and of everything."""
    if count in (0, everything):
        return "100 %" if count else "0 %"
    percent = 100 * count / everything
    return f"{min(max(percent, 0.1), 99.9):.1f} %"
