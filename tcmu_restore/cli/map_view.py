"""A volume's address space on a terminal: a block a cell, readable without colour too."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..units import format_size
from .map_kinds import Kind, Map, is_whole, shown_kind

_DARK = 0x80


def print_map(console: Console, found: Map, *, columns: int, moment: datetime) -> None:
    """Print the map, *columns* cells a line, each line with the offset that it begins at."""
    console.print(Text(found.title(moment), style="bold"))
    console.print(Text(f"Each cell is about {format_size(found.cell_size)}."))
    for start in range(0, len(found.cells), columns):
        line = Text(f"{format_size(found.offset(start)):>9}  ")
        for index, cell in enumerate(found.cells[start : start + columns], start):
            kind = shown_kind(cell)
            letter = kind.letter if is_whole(cell) else kind.letter.lower()
            hot = " underline bold" if found.is_hot(index) else ""
            line.append(letter, style=style_of(kind) + hot)
        console.print(line, soft_wrap=True)
    console.print(_legend(found))
    console.print("A small letter: other kinds are in the cell as well.")
    if any(map(found.is_hot, range(len(found.cells)))):
        console.print(Text("Underlined: hosts use it most.", style="underline"))


def _legend(found: Map) -> Table:
    table = Table.grid(padding=(0, 2))
    for justify in ("right", "left", "right", "right"):
        table.add_column(justify=justify)
    for kind, size, share in found.legend():
        table.add_row(Text(f" {kind.letter} ", style=style_of(kind)), kind.words, size, share)
    return table


def style_of(kind: Kind) -> str:
    """Return a style whose letters can be read on the kind's colour."""
    red, green, blue = (int(kind.colour[at : at + 2], 16) for at in (1, 3, 5))
    luminance = (299 * red + 587 * green + 114 * blue) // 1000
    return f"{'white' if luminance < _DARK else 'black'} on {kind.colour}"
