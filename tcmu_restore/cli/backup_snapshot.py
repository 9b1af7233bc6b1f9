"""``snapshot-create``, ``snapshot-list`` and ``snapshot-delete``: what runs on the backup host.

They work on this host's storage and LIO, as root, without the service. ``--json`` is the documented
interface for scripts: one object on standard output.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Final

import click

from ..units import format_size
from .context import CliContext
from .extent import extent_option
from .size import size_option

if TYPE_CHECKING:
    from rich.table import Table

_JSON: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")

_EVERY_ADDRESS: Final = ("0.0.0.0:", "[::]:")


@click.command("snapshot-create")
@click.argument("origin")
@click.argument("snapshot")
@click.option("--target", metavar="IQN", help="Of the new target; by default made of the origin's.")
@click.option(
    "--portal",
    metavar="ADDRESS[:PORT]",
    help="Where to export it, so that it has a link of its own; by default the origin's portals.",
)
@extent_option("Only these bytes matter; may be repeated.")
@click.option("--partition", type=click.IntRange(min=1), help="Only this partition matters.")
@click.option(
    "--provider", metavar="NAME", help="lvm-thin, lvm or reflink; by default what fits the origin."
)
@size_option(
    "--size",
    "A classic LVM snapshot's own area; by default 20 % of the origin. It is broken when it "
    "overflows.",
)
@_JSON
@click.pass_obj
def snapshot_create(  # noqa: PLR0913, PLR0917 - one parameter an option
    cli: CliContext,
    origin: str,
    snapshot: str,
    target: str | None,
    portal: str | None,
    extents: tuple[tuple[int, int], ...],
    partition: int | None,
    provider: str | None,
    size: int | None,
    as_json: bool,
) -> None:
    """On the backup host: take SNAPSHOT of ORIGIN and export it read-only.

    ORIGIN is a storage object of LIO, block/NAME or fileio/NAME. Initiators, CHAP names and secrets
    are its own. Whatever interrupts it, the same command finishes the job.
    """
    from ..snapshots.listing import describe  # noqa: PLC0415 - only these verbs need rtslib
    from ..snapshots.verbs import CreateRequest, create  # noqa: PLC0415

    request = CreateRequest(
        origin=origin,
        snapshot=snapshot,
        target=target,
        portal=portal,
        extents=extents,
        partition=partition,
        provider=provider,
        size=size,
    )
    made = describe(create(cli.make_snapshot_host(), request))
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(f"{origin} as of {made['created']} is exported read-only as {snapshot!r}.")
    for line in attach_lines(made):
        click.echo(line)


@click.command("snapshot-list")
@click.argument("origin", required=False)
@_JSON
@click.pass_obj
def snapshot_list(cli: CliContext, origin: str | None, as_json: bool) -> None:
    """On the backup host: show the snapshots, of ORIGIN or all, and how each is removed."""
    from ..snapshots.listing import list_snapshots  # noqa: PLC0415 - only these verbs need rtslib

    found = list_snapshots(cli.make_snapshot_host(), origin)
    if as_json:
        click.echo(json.dumps({"snapshots": found}))
    elif not found:
        click.echo("There are no snapshots.")
    else:
        cli.console.print(list_table(found))


@click.command("snapshot-delete")
@click.argument("snapshot")
@_JSON
@click.pass_obj
def snapshot_delete(cli: CliContext, snapshot: str, as_json: bool) -> None:
    """On the backup host: remove SNAPSHOT with its LUN and target, if there is one."""
    from ..snapshots.verbs import delete  # noqa: PLC0415 - only these verbs need rtslib

    existed = delete(cli.make_snapshot_host(), snapshot)
    if as_json:
        click.echo(json.dumps({"snapshot": snapshot, "existed": existed}))
    else:
        click.echo(f"Removed {snapshot!r}." if existed else f"There is no snapshot {snapshot!r}.")


def attach_lines(made: dict[str, Any]) -> list[str]:
    """Return what to type on the primary for a snapshot's documented object."""
    url = made["url"]
    for address in _EVERY_ADDRESS:
        url = url.replace(f"//{address}", "//ADDRESS:", 1)
    words = ["tcmu-restore", "attach-snapshot", "VOLUME", url]
    for offset, length in made["extents"] or ():
        words += ["--extent", f"{offset}:{length}"]
    where = " (ADDRESS is any of this host's)" if "//ADDRESS:" in url else ""
    return [f"On the primary{where}:", shlex.join(words)]


def list_table(found: list[dict[str, Any]]) -> Table:
    """Return snapshots' documented objects for a terminal."""
    from rich.table import Table  # noqa: PLC0415 - tens of milliseconds

    table = Table(box=None, pad_edge=False)
    for heading in ("snapshot", "origin", "kind", "size", "state", "taken", "LUN"):
        table.add_column(heading, overflow="fold")
    for each in found:
        size = format_size(each["size"])
        words = (each["snapshot"], each["origin"], each["provider"], size, each["state"])
        table.add_row(*words, each["created"], each["url"])
    return table
