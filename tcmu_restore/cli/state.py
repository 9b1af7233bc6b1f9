"""``tcmu-restore state``: what concerns the state file itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .. import errors
from ..service.errors import error_class
from .confirmation import YES_OPTION, confirm
from .consequence import rebuild_consequences
from .context import CliContext
from .errors import ReplyError

if TYPE_CHECKING:
    from .client import ServiceClient


@click.group()
def state() -> None:
    """Repair a volume whose state file is damaged or missing."""


@state.command()
@click.argument("name")
@YES_OPTION
@click.pass_obj
def rebuild(cli: CliContext, name: str, yes: bool) -> None:
    """Make the state file of volume NAME anew. Everything counts as lost then.

    For a volume that cannot be opened. It says what could be salvaged, and what it cost.
    """
    if not yes:
        confirm("state rebuild", rebuild_consequences(name, state_damage(cli.client, name)))
    click.echo(cli.client.rebuild_state(name))
    click.echo(f"See what is next with: tcmu-restore status {name}")


def state_damage(client: ServiceClient, name: str) -> str:
    """Return what is wrong with the state file, or nothing if the service knows nothing wrong."""
    try:
        state_file = client.status(name).get("state_file")
    except ReplyError as error:
        if error_class(error.error_name) is not errors.StateCorruptError:
            raise
        return str(error)
    if state_file is None or not state_file["error"]:
        return ""
    return f"{state_file['path']}: {state_file['error'].rstrip('.')}."
