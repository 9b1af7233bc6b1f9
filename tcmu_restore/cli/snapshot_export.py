"""``snapshot-export``: write a snapshot to a disk that somebody carries to the primary.

Runs on the backup host and needs no service there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import click

from ..units import format_size
from .context import CliContext

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from ..transfer.export import ExportProgress

_LINES: Final = 20
"""Lines of progress where there is no terminal: one each 5 %."""

_VERIFIED_STEP: Final = 1024
"""Extents, so a line or a new number a GiB."""


class ExportView(Protocol):
    """Shows how far an export is."""

    def verified(self, count: int) -> None:
        """*count* extents of an earlier run were read back."""

    def report(self, progress: ExportProgress) -> None:
        """The export is so far."""


@click.command("snapshot-export")
@click.argument("source")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--backup",
    metavar="URL",
    help="The live backup LUN, as iscsi://HOST[:PORT]/IQN/LUN; it is asked for its identity.",
)
@click.option(
    "--backup-identity",
    metavar="IDENTITY",
    help="The same by hand: backup.identity of `tcmu-restore status NAME --json` on the primary.",
)
@click.option(
    "--credentials", metavar="FILE", help="Root-only file with the CHAP names and secrets."
)
@click.option("--compress", type=click.Choice(["zstd"]), help="Make it smaller.")
@click.option("--no-space-check", is_flag=True, help="Begin even if it may not fit.")
@click.pass_obj
def snapshot_export(  # noqa: PLR0913, PLR0917 - one parameter an option
    cli: CliContext,
    source: str,
    directory: Path,
    backup: str | None,
    backup_identity: str | None,
    credentials: str | None,
    compress: str | None,
    no_space_check: bool,
) -> None:
    """Write SOURCE, a snapshot of a backup, to DIRECTORY on a disk that travels.

    SOURCE is the snapshot's device or file, or an iscsi:// URL. Zeros are left out. Whatever
    interrupts it, the same command goes on.
    """
    from ..transfer.run import ExportRequest, run_export  # noqa: PLC0415 - only this verb reads disks

    if (backup is None) == (backup_identity is None):
        raise click.UsageError("Give either --backup or --backup-identity.")
    request = ExportRequest(
        source,
        directory,
        backup=backup,
        backup_identity=backup_identity,
        credentials=credentials,
        compression=compress or "none",
        check_space=not no_space_check,
    )
    with _view(cli.console) as view:
        try:
            manifest = run_export(request, view.report, view.verified)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. The same command goes on where it was.", err=True)
            raise
    click.echo(f"Done: {manifest.index_records} extents with data, taken {manifest.header.taken}.")
    click.echo("Unmount the disk, carry it to the primary, mount it there, and run:")
    click.echo("tcmu-restore attach-snapshot NAME DIRECTORY")


@contextmanager
def _view(console: Console) -> Iterator[ExportView]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    from rich import progress as bar  # noqa: PLC0415 - tens of milliseconds

    columns = (
        bar.TextColumn("{task.description}"),
        bar.BarColumn(),
        bar.TextColumn("{task.fields[done]}"),
        bar.TransferSpeedColumn(),
        bar.TimeRemainingColumn(),
    )
    with bar.Progress(*columns, console=console) as progress:
        yield _Bar(progress)


class _Bar:
    """A bar with rate and time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("export", total=None, done="")
        self._is_running = False

    def verified(self, count: int) -> None:
        self._progress.update(self._task, description="verify", done=f"{count} extents")

    def report(self, progress: ExportProgress) -> None:
        if not self._is_running:  # rate and time left are this run's
            self._is_running = True
            self._progress.reset(self._task, description="export", completed=progress.done)
        self._progress.update(
            self._task,
            total=max(progress.total, 1),
            completed=progress.done if progress.total else 1,
            done=_words(progress),
        )


class _Lines:
    """A line now and then, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = -1

    def verified(self, count: int) -> None:
        if count % _VERIFIED_STEP == 0:
            self._say(f"verified {count} extents of an earlier run")

    def report(self, progress: ExportProgress) -> None:
        step = progress.done * _LINES // progress.total if progress.total else _LINES
        if step > self._last:
            self._last = step
            self._say(f"{step * 100 // _LINES} %: {_words(progress)}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)


def _words(progress: ExportProgress) -> str:
    done, total = format_size(progress.done), format_size(progress.total)
    return f"{done} of {total} read, {format_size(progress.stored)} stored"
