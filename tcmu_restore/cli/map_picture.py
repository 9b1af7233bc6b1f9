"""A volume's address space as a PNG. The only module that needs matplotlib, an optional extra.

A cell's colour is the mean of its regions' kinds, so that a half-restored cell looks half restored;
an alarming kind is given most of the colour, however few regions are of it.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator

from ..units import format_size
from .map_kinds import KINDS, Cell, Map, shown_kind

_COLUMNS: Final = 128
_ROWS: Final = 64
CELLS: Final = _COLUMNS * _ROWS
"""What to ask the service for."""

_LABELS: Final = 8
"""Offsets at the side."""

_ALARM_SHARE: Final = 0.7

_WHITE: Final = (1.0, 1.0, 1.0)

Colour = tuple[float, float, float]


def save_picture(found: Map, path: str, moment: datetime) -> None:
    """Draw the map and write it to *path*. Raises OSError."""
    figure = Figure(figsize=(11, 8), dpi=120, facecolor="white")
    grid = figure.add_gridspec(
        3, 1, height_ratios=(20, 1, 3), hspace=0.2, left=0.09, right=0.965, top=0.91, bottom=0.13
    )
    _draw_cells(figure.add_subplot(grid[0]), found)
    _draw_shares(figure.add_subplot(grid[1]), found)
    _draw_accesses(figure.add_subplot(grid[2]), found)
    figure.text(0.09, 0.95, found.title(moment), fontsize=15, fontweight="bold")
    note = f"{_COLUMNS} cells a line, about {format_size(found.cell_size)} each"
    figure.text(0.965, 0.95, note, fontsize=10, color="#555555", ha="right")
    _draw_legend(figure, found)
    figure.savefig(path, format="png")


def mean_colour(cell: Cell) -> Colour:
    """Return the colour of a cell, each part 0 to 1."""
    total = sum(cell.values())
    if not total:
        return _WHITE
    shares = {kind.name: cell.get(kind.name, 0) / total for kind in KINDS}
    shown = shown_kind(cell)
    if shown.is_alarming and shares[shown.name] < _ALARM_SHARE:
        rest = (1 - _ALARM_SHARE) / (1 - shares[shown.name])
        shares = {name: share * rest for name, share in shares.items()}
        shares[shown.name] = _ALARM_SHARE
    parts = [
        sum(shares[kind.name] * int(kind.colour[at : at + 2], 16) for kind in KINDS) / 0xFF
        for at in (1, 3, 5)
    ]
    return (min(parts[0], 1.0), min(parts[1], 1.0), min(parts[2], 1.0))


def _draw_cells(axes: Axes, found: Map) -> None:
    colours = [mean_colour(cell) for cell in found.cells]
    colours += [_WHITE] * (-len(colours) % _COLUMNS)
    rows = [colours[at : at + _COLUMNS] for at in range(0, len(colours), _COLUMNS)]
    axes.imshow(rows, aspect="auto", interpolation="nearest")
    marked = range(0, len(rows), max(1, len(rows) // _LABELS))
    axes.yaxis.set_major_locator(FixedLocator(list(marked)))
    axes.set_yticklabels([format_size(found.offset(row * _COLUMNS)) for row in marked])
    axes.set_xticks([])
    axes.set_ylabel("offset in the volume")


def _draw_shares(axes: Axes, found: Map) -> None:
    total = sum(found.total(kind) for kind in KINDS)
    left = 0.0
    for kind in KINDS:
        share = found.total(kind) / total
        axes.barh(0, share, left=left, height=1, color=kind.colour)
        left += share
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_ylabel("all", rotation=0, ha="right", va="center")


def _draw_accesses(axes: Axes, found: Map) -> None:
    """Draw where hosts read and write, along the volume; each bar in the colour of its cells."""
    bars = min(_COLUMNS, len(found.accesses))
    for bar in range(bars):
        cells = range(bar * len(found.cells) // bars, (bar + 1) * len(found.cells) // bars)
        whole = Counter[str]()
        for cell in cells:
            whole.update(found.cells[cell])
        height = max(found.accesses[cell] for cell in cells)
        colour = mean_colour(whole)
        axes.bar(bar, height, 1, align="edge", color=colour, edgecolor="#555555", linewidth=0.4)
    if not any(found.accesses):
        axes.text(0.5, 0.5, "no accesses counted yet", transform=axes.transAxes, ha="center")
    axes.set_yscale("function", functions=(np.sqrt, np.square))
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.set_xlim(0, max(1, bars))
    marked = range(0, bars + 1, max(1, bars // 4))
    axes.set_xticks(
        list(marked), [format_size(found.size * mark // max(1, bars)) for mark in marked]
    )
    axes.set_ylabel("accesses", rotation=0, ha="right", va="center")


def _draw_legend(figure: Figure, found: Map) -> None:
    handles = [
        Patch(facecolor=kind.colour, edgecolor="#555555", label=f"{kind.words}: {size}, {share}")
        for kind, size, share in found.legend()
    ]
    figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=10)
