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
from .trend import SourceName, Trend

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

_BAR_WIDTH: Final = 24

_EVENTS_SHOWN: Final = 8
"""On one look; a live screen shows as many as it has room for."""

_SOURCES: Final[tuple[SourceName, ...]] = ("backup", "snapshot")


def print_status(console: Console, status: VolumeStatus) -> None:
    """Print one volume on one screen: the rows, the bars, what to do next, the last events."""
    console.print(_rows(status, Trend()))
    steps = next_steps(status)
    if steps:
        console.print()
    for step in steps:
        console.print(Text(step), soft_wrap=True)  # a command must survive being copied
    events = _event_lines(status, _EVENTS_SHOWN)
    if events:
        console.print(Group(Text(), *events))


def live_screen(
    console: Console, status: VolumeStatus, trend: Trend, *, note: str, is_old: bool
) -> RenderableType:
    """Return one volume for a whole screen; *note* stands on top, marked if the rest *is_old*.

    Of the events there are as many as *console* has lines left. If it is too low for the rest, what
    to do next stands above the numbers.
    """
    head = Text(note, style="bold red" if is_old else "dim")
    rows = _rows(status, trend)
    steps = [Text(step) for step in next_steps(status)]
    fixed = Group(head, rows, Text(), *steps, Text())
    lines = len(console.render_lines(fixed, pad=False))
    if lines > console.height + 1:  # the last one is empty
        return Group(head, *steps, Text(), rows)
    return Group(fixed, *_event_lines(status, max(0, console.height - lines)))


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
    for status in statuses:
        if restore := status.get("restore_from"):
            line = f"{status['volume']}: unfinished restore: {text.restore_text(restore)}"
            console.print(Text(line), soft_wrap=True)


def _rows(status: VolumeStatus, trend: Trend) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="bold")
    table.add_column(overflow="fold")
    special: dict[str, RenderableType] = {"state": _states(status)}
    if is_open(status):
        special["regions"] = _regions(status)
    for label, value in text.status_rows(status):
        words = Text(value + _rate_text(label, trend))
        fraction = _fraction(label, status, trend)
        shown = special.get(label, words if fraction is None else _bar(fraction, words))
        if label == "served":
            _add_merge(table, status)
        table.add_row(label, shown)
    return table


def _add_merge(table: Table, status: VolumeStatus) -> None:
    """Add the merge, and how much is current unless that is what the merge's bar says."""
    if status["merge"]["state"] != "running":
        current = text.fraction_current(status)
        table.add_row("current", _bar(current, Text(text.format_percent(current))))
    table.add_row("merge", _merge(status))


def _regions(status: VolumeStatus) -> RenderableType:
    """Return the kinds of regions side by side: counts, and bytes below."""
    table = Table.grid(padding=(0, 3, 0, 0))
    columns = text.region_columns(status)
    for name, count, _ in columns:
        is_bad = bool(count) and name in ("outdated", "in doubt", "stale", "lost")
        table.add_column(justify="right", style="yellow" if is_bad else "")
    table.add_row(*(name for name, _, _ in columns))
    table.add_row(*(f"{count:,}" for _, count, _ in columns))
    table.add_row(*(size for _, _, size in columns))
    return table


def _rate_text(label: str, trend: Trend) -> str:
    for name in _SOURCES:
        rate = trend.rate(name) if name == label else None
        if rate is not None:
            moved = (("read", int(rate.read)), ("written", int(rate.written)))
            words = [f"{text.format_rate(each)} {word}" for word, each in moved if each]
            return f", now {', '.join(words) or 'idle'}"
    return ""


def _fraction(label: str, status: VolumeStatus, trend: Trend) -> float | None:
    """Return how far a job is that has a bar, 0 to 1; None for any other row."""
    if label == "resync":
        return trend.fraction_resynced(status)
    return text.fraction_verified(status["verify"]) if label == "verify" else None


def _event_lines(status: VolumeStatus, count: int) -> list[Text]:
    """Return the last *count* events, the newest first."""
    events = status.get("events", [])[-count:] if count else []
    return [
        Text(text.event_line(event), style="dim", no_wrap=True, overflow="ellipsis")
        for event in reversed(events)
    ]


def _open_cells(status: VolumeStatus) -> tuple[RenderableType, ...]:
    current = text.format_percent(text.fraction_current(status))
    backup = "reachable" if status["backup"]["reachable"] else "not reachable"
    return current, backup, Text(_short_merge(status))


def _states(status: VolumeStatus) -> Text:
    """Return every condition that holds, each in its colour."""
    names = [condition["name"] for condition in conditions(status)]
    words = [Text(name.replace("_", " "), style=_STYLES.get(name, "")) for name in names]
    return Text(", ").join(words)


def _bar(fraction: float, words: Text) -> RenderableType:
    """Return a bar with words beside it."""
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(
        total=1.0,
        completed=fraction,
        width=_BAR_WIDTH,
        complete_style="cyan",
        finished_style="green",
    )
    grid.add_row(bar, words)
    return grid


def _merge(status: VolumeStatus) -> RenderableType:
    merge = status["merge"]
    if merge["state"] == "idle":
        return Text("idle")
    words = text.merge_line(merge, bar_width=0).replace("[] ", "")
    return _bar(text.fraction_merged(merge), Text(words))


def _short_merge(status: VolumeStatus) -> str:
    merge = status["merge"]
    if merge["state"] != "running":
        return merge["state"]
    percent = text.format_percent(text.fraction_merged(merge))
    return (
        f"{percent}, {text.format_rate(merge['rate_bytes_per_second'])}, {text.format_left(merge)}"
    )
