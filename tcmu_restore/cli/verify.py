"""``tcmu-restore verify``: compare the primary with the backup while hosts go on."""

from __future__ import annotations

import click

from ..service.contract import VERIFY_REPAIRS
from .context import CliContext

SAID = {
    "pause": "Paused. Go on with: tcmu-restore verify resume {}",
    "resume": "It goes on. Watch it with: tcmu-restore status {}",
    "cancel": "Cancelled. What was found stays in: tcmu-restore status {}",
}


@click.group()
def verify() -> None:
    """Compare the primary with the backup."""


@verify.command()
@click.argument("name")
@click.option(
    "--repair",
    type=click.Choice(VERIFY_REPAIRS),
    default="none",
    show_default=True,
    help="Which side is right where they differ; none only reports.",
)
@click.pass_obj
def start(cli: CliContext, name: str, repair: str) -> None:
    """Begin with the first byte; it goes on after a restart."""
    cli.client.verify("start", name, repair=repair)
    click.echo(f"The verification runs. Watch it with: tcmu-restore status {name}")


def _tell(cli: CliContext, verb: str, name: str) -> None:
    cli.client.verify(verb, name)
    click.echo(SAID[verb].format(name))


@verify.command()
@click.argument("name")
@click.pass_obj
def pause(cli: CliContext, name: str) -> None:
    """Pause the verification."""
    _tell(cli, "pause", name)


@verify.command()
@click.argument("name")
@click.pass_obj
def resume(cli: CliContext, name: str) -> None:
    """Go on with a paused verification."""
    _tell(cli, "resume", name)


@verify.command()
@click.argument("name")
@click.pass_obj
def cancel(cli: CliContext, name: str) -> None:
    """Give the verification up."""
    _tell(cli, "cancel", name)
