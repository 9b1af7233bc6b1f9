"""``tcmu-restore merge``: start, pause, resume and cancel the background copy."""

from __future__ import annotations

import click

from .context import CliContext

_WAIT = click.option("--wait", is_flag=True, help="Show the progress until the merge ends.")


@click.group()
def merge() -> None:
    """Copy the attached snapshot to the primary in the background."""


@merge.command()
@click.argument("name")
@_WAIT
@click.pass_obj
def start(cli: CliContext, name: str, wait: bool) -> None:
    """Start the merge. Regions that are current already are not transmitted."""
    _begin(cli, "start", name, wait=wait)


@merge.command()
@click.argument("name")
@click.pass_obj
def pause(cli: CliContext, name: str) -> None:
    """Pause the merge; it keeps its position."""
    cli.client.merge("pause", name)


@merge.command()
@click.argument("name")
@_WAIT
@click.pass_obj
def resume(cli: CliContext, name: str, wait: bool) -> None:
    """Go on where the merge was paused."""
    _begin(cli, "resume", name, wait=wait)


@merge.command()
@click.argument("name")
@click.pass_obj
def cancel(cli: CliContext, name: str) -> None:
    """Stop the merge; what was merged stays."""
    cli.client.merge("cancel", name)


def _begin(cli: CliContext, action: str, name: str, *, wait: bool) -> None:
    cli.client.merge(action, name)
    if not wait:
        cli.console.print(f"The merge runs. Watch it with: tcmu-restore status {name}")
        return
    from .merge_wait import wait_for_merge  # noqa: PLC0415 - rich, for its bar

    try:
        status = wait_for_merge(name, cli.client.status, sleep=cli.sleep, console=cli.console)
    except KeyboardInterrupt:
        click.echo(f"\nThe merge goes on. Stop it with: tcmu-restore merge pause {name}", err=True)
        raise
    if report := status["merge"].get("report"):
        cli.console.print(report, markup=False, highlight=False)
    if status["advice"]:
        cli.console.print(status["advice"], markup=False, highlight=False)
