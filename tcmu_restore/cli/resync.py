"""``tcmu-restore resync``: hold back, or let go, what is sent to the backup afterwards."""

from __future__ import annotations

import click

from .context import CliContext


@click.group()
def resync() -> None:
    """Pause or resume sending stale regions to the backup."""


@resync.command()
@click.argument("name")
@click.pass_obj
def pause(cli: CliContext, name: str) -> None:
    """Pause the resync. What is stale stays on the primary only."""
    cli.client.resync("pause", name)
    click.echo(f"Paused. Go on with: tcmu-restore resync resume {name}")


@resync.command()
@click.argument("name")
@click.pass_obj
def resume(cli: CliContext, name: str) -> None:
    """Go on with the resync."""
    cli.client.resync("resume", name)
    click.echo(f"The resync runs. Watch it with: tcmu-restore status {name}")
