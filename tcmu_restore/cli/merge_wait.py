"""Waiting for a merge, with a progress bar.

The numbers are the service's: the bar shows what was merged, the rate and the time left are what it
measured, and where it has no estimate there is none. Leaving the wait leaves the merge running.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ..service.registry_seam import MergeStatus, VolumeStatus
from ..units import format_size
from . import status_text as text
from .condition import is_open
from .errors import MergeEndedError

POLL_SECONDS: Final = 1.0

_REASONS: Final = {
    "idle": "it was cancelled",
    "paused": "it is paused, go on with: tcmu-restore merge resume",
}


def wait_for_merge(
    name: str,
    read_status: Callable[[str], VolumeStatus],
    *,
    sleep: Callable[[float], None],
    console: Console,
) -> VolumeStatus:
    """Show the merge's progress until it ends; return the last status if everything is merged.

    Raises:
        MergeEndedError: It failed, or was paused or cancelled meanwhile.
    """
    with _progress(console) as progress:
        task = progress.add_task(name, done="", rate="", left="")
        while True:
            status = read_status(name)
            if not is_open(status):
                raise MergeEndedError(name, status["state"], status["advice"])
            merge = status["merge"]
            _show(progress, task, merge)
            if merge["state"] != "running":
                break
            sleep(POLL_SECONDS)
    if merge["state"] != "done":
        reason = merge["reason"] or _REASONS.get(merge["state"], "no reason is known")
        raise MergeEndedError(name, merge["state"], reason)
    return status


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]}"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        console=console,
    )


def _show(progress: Progress, task: TaskID, merge: MergeStatus) -> None:
    running = merge["state"] == "running"
    percent = text.format_percent(text.fraction_merged(merge))
    total = format_size(merge["bytes_total"])
    progress.update(
        task,
        total=max(merge["bytes_total"], 1),
        completed=merge["bytes_done"],
        done=f"{percent} of {total}",
        rate=text.format_rate(merge["rate_bytes_per_second"]) if running else "",
        left=text.format_left(merge) if running else merge["state"],
    )
