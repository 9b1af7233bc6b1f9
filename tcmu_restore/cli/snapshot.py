"""``prepare-snapshot``, ``attach-snapshot`` and ``detach-snapshot``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .context import CliContext
from .extent import extent_option
from .link import bulk_link_options, link_settings

CREDENTIALS_OPTION = click.option(
    "--credentials",
    metavar="FILE",
    help="Root-only file with the CHAP names and secrets.",
)


@click.command("prepare-snapshot")
@click.argument("name")
@click.pass_obj
def prepare_snapshot(cli: CliContext, name: str) -> None:
    """Say that a snapshot of NAME's backup is about to be taken.

    Run it before each snapshot: what the backup holds by now may then come from the snapshot.
    """
    cli.client.prepare_snapshot(name)
    click.echo("Take the snapshot on the backup host now. Then use it with:")
    click.echo(f"tcmu-restore attach-snapshot {name} SNAPSHOT")


@click.command("attach-snapshot")
@click.argument("name")
@click.argument("snapshot")
@CREDENTIALS_OPTION
@extent_option("All that SNAPSHOT covers: 0:1G, 4M:64k. Repeatable. Without it: everything.")
@bulk_link_options
@click.pass_obj
def attach_snapshot(
    cli: CliContext,
    /,
    name: str,
    snapshot: str,
    credentials: str | None,
    extents: tuple[tuple[int, int], ...],
    **link: Any,
) -> None:
    """Let volume NAME use SNAPSHOT, an iscsi:// URL or the path of a disk or file.

    Or the directory that snapshot-export wrote on a disk that was carried here. It must have been
    taken from the backup after the loss. The options of the link go before [snapshot_link] of the
    volume's definition.

    With --extent only whole regions within these bytes are taken from it; all others go on coming
    from the backup.
    """
    if "://" not in snapshot and Path(snapshot).is_dir():  # the service is elsewhere
        snapshot = str(Path(snapshot).absolute())
    cli.client.attach_snapshot(
        name,
        snapshot,
        credentials=credentials,
        extents=extents or None,
        link=link_settings(link),
    )
    click.echo(f"Attached. Copy it with: tcmu-restore merge start {name} --wait")


@click.command("detach-snapshot")
@click.argument("name")
@click.pass_obj
def detach_snapshot(cli: CliContext, name: str) -> None:
    """Stop using the snapshot of volume NAME, so that it can be removed."""
    cli.client.detach_snapshot(name)
