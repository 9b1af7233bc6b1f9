"""The verbs of a loss: ``replace-primary``, ``declare-lost`` and ``accept-outdated``."""

from __future__ import annotations

import click

from ..errors import VolumeNotOpenError
from . import consequence
from .condition import is_open
from .confirmation import YES_OPTION, confirm
from .consequence import ByteRange
from .context import CliContext
from .size import size_option

_OFFSET = size_option("--offset", "First byte: 4096, 4k, 1M, 1G. The start if not given.")
_LENGTH = size_option("--length", "How many bytes. Up to the end if not given.")


@click.command("replace-primary")
@click.argument("name")
@click.option("--primary", required=True, metavar="PATH", help="The new disk, or the failed one.")
@click.pass_obj
def replace_primary(cli: CliContext, name: str, primary: str) -> None:
    """Put another disk under the running volume NAME.

    The restore starts at once; what is on a new disk is overwritten. The disk that failed may be
    given back as well.
    """
    cli.client.replace_primary(name, primary)
    click.echo(f"{name} is restored to {primary} now. Watch it with: tcmu-restore status {name}")


@click.command("declare-lost")
@click.argument("name")
@_OFFSET
@_LENGTH
@click.option("--force", is_flag=True, help="Even where only the primary has the newest writes.")
@YES_OPTION
@click.pass_obj
def declare_lost(
    cli: CliContext, name: str, offset: int | None, length: int | None, force: bool, yes: bool
) -> None:
    """Count bytes of volume NAME as lost.

    They are fetched from the backup again. For a disk that returns wrong bytes without an error.
    Without --offset and --length: all of it.
    """
    extent = ByteRange(offset or 0, length)
    if not yes:
        status = cli.client.status(name)
        question = consequence.declare_lost_consequences(status, extent, force=force)
        confirm("declare-lost", question)
    count = cli.client.declare_lost(name, offset=extent.offset, length=extent.length, force=force)
    click.echo(f"{count} regions of {name} are lost now and come from the backup again.")


@click.command("accept-outdated")
@click.argument("name")
@_OFFSET
@_LENGTH
@YES_OPTION
@click.pass_obj
def accept_outdated(
    cli: CliContext, name: str, offset: int | None, length: int | None, yes: bool
) -> None:
    """Give up the newest writes where volume NAME is outdated.

    The backup's older bytes count from then on. It lists the extents, asks, and accepts exactly
    what it listed; with --yes all that is outdated, or all within --offset and --length.
    """
    extent = ByteRange(offset or 0, length)
    extents = [extent] if yes else _ask(cli, name, extent)
    count = 0
    for one in extents:
        count += cli.client.accept_outdated(name, offset=one.offset, length=one.length)
    if not count:
        click.echo(consequence.NOTHING_OUTDATED)
        return
    click.echo(f"{count} regions of {name}: the backup's older bytes count from now on.")
    if not yes and consequence.has_unlisted_outdated(cli.client.status(name)):
        click.echo("More is outdated. Run this again to see it.")


def _ask(cli: CliContext, name: str, extent: ByteRange) -> list[ByteRange]:
    """Return the listed extents if the person agrees; more may become outdated meanwhile."""
    status = cli.client.status(name)
    if not is_open(status):
        raise VolumeNotOpenError(name)
    extents = consequence.outdated_within(status, extent)
    if not extents and not consequence.has_unlisted_outdated(status):
        return []
    confirm("accept-outdated", consequence.accept_outdated_consequences(status, extents))
    return extents or [extent]
