"""``tcmu-restore protect``: a restored volume stays mirrored, ready for the next loss."""

from __future__ import annotations

import click

from ..service.contract import MIRROR_MODES
from .context import CliContext


@click.command()
@click.argument("name")
@click.option(
    "--mirror",
    type=click.Choice(MIRROR_MODES),
    help="What a write waits for from now on; as it is if not given.",
)
@click.pass_obj
def protect(cli: CliContext, name: str, mirror: str | None) -> None:
    """Keep volume NAME mirrored after its restore; change what a write waits for.

    status advises no handover any more. The other way is: tcmu-restore handover NAME
    """
    policy = mirror or cli.client.status(name).get("mirror", MIRROR_MODES[0])
    cli.client.protect(name, policy)
    click.echo(f"{name} stays mirrored ({policy}).")
