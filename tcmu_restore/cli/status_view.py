"""Statuses on a terminal: one screen for one volume, one table for all of them."""

from __future__ import annotations

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..service.registry_seam import VolumeStatus
from . import status_text as text
from .condition import conditions, is_open, next_steps

_STYLES: Final = {
    "fenced": "bold red",
    "failed": "bold red",
    "outdated": "bold red",
    "diskless": "yellow",
    "degraded": "yellow",
    "state_full": "yellow",
    "resyncing": "cyan",
    "restoring": "cyan",
    "in_doubt": "cyan",
    "in_sync": "green",
    "closed": "dim",
}

_BAR_WIDTH: Final = 40


def print_status(console: Console, status: VolumeStatus) -> None:
    """Print one volume on one screen: the rows, two bars, and what to do next."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="bold")
    table.add_column(overflow="fold")
    for label, value in text.status_rows(status):
        table.add_row(label, _states(status) if label == "state" else Text(value))
    if is_open(status):
        table.add_row("current", _bar(text.fraction_current(status)))
        table.add_row("merge", _merge(status))
    console.print(table)
    steps = next_steps(status)
    if steps:
        console.print()
    for step in steps:
        console.print(Text(step), soft_wrap=True)  # a command must survive being copied


def print_overview(console: Console, statuses: list[VolumeStatus]) -> None:
    """Print all volumes, one a line."""
    if not statuses:
        console.print("There are no volumes. Make one with: tcmu-restore create")
        return
    table = Table("volume", "state", "current", "backup", "merge")
    for status in statuses:
        name_and_state = (Text(status["volume"]), _states(status))
        table.add_row(*name_and_state, *(_open_cells(status) if is_open(status) else ()))
    console.print(table)


def _open_cells(status: VolumeStatus) -> tuple[RenderableType, ...]:
    current = text.format_percent(text.fraction_current(status))
    backup = "reachable" if status["backup"]["reachable"] else "not reachable"
    return current, backup, Text(_short_merge(status))


def _states(status: VolumeStatus) -> Text:
    """Return every condition that holds, each in its colour."""
    names = [condition["name"] for condition in conditions(status)]
    words = [Text(name.replace("_", " "), style=_STYLES.get(name, "")) for name in names]
    return Text(", ").join(words)


def _bar(fraction: float) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=1.0, completed=fraction, width=_BAR_WIDTH)
    grid.add_row(bar, text.format_percent(fraction))
    return grid


def _merge(status: VolumeStatus) -> RenderableType:
    merge = status["merge"]
    if merge["state"] == "idle":
        return Text("idle")
    words = text.merge_line(merge, bar_width=0).replace("[] ", "")
    return Group(Text(words), _bar(text.fraction_merged(merge)))


def _short_merge(status: VolumeStatus) -> str:
    merge = status["merge"]
    if merge["state"] != "running":
        return merge["state"]
    percent = text.format_percent(text.fraction_merged(merge))
    return (
        f"{percent}, {text.format_rate(merge['rate_bytes_per_second'])}, {text.format_left(merge)}"
    )
