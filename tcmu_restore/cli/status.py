"""``tcmu-restore status``: a volume on one screen, once or live, or all of them in a table."""

from __future__ import annotations

import json

import click

from ..service.registry_seam import VolumeStatus
from .condition import begun_handover
from .context import CliContext
from .handover_plan import begun_handovers
from .lio_status import with_lio
from .status_reading import read_statuses


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, with stable keys.")
@click.option("--watch", "is_live", is_flag=True, help="Stay and follow; Ctrl-C leaves.")
@click.pass_obj
def status(cli: CliContext, name: str | None, as_json: bool, is_live: bool) -> None:
    """Show volume NAME on one screen, or all volumes in a table.

    With --json: one object for NAME, a list of objects for all.
    """
    if is_live:
        _watch(cli, name, as_json=as_json)
    elif as_json:
        found = with_lio(cli.client.status(name)) if name is not None else read_statuses(cli.client)
        click.echo(json.dumps(found, indent=2))
    elif name is not None:
        _show(cli, name)
    else:
        _show_all(cli)


def _show_all(cli: CliContext) -> None:
    from .status_view import print_overview  # noqa: PLC0415 - rich is not for --json

    statuses = read_statuses(cli.client)
    print_overview(cli.console, statuses)
    for line in _unfinished(statuses):
        cli.console.print(line, soft_wrap=True)


def _show(cli: CliContext, name: str) -> None:
    from .status_view import print_status  # noqa: PLC0415 - rich is not for --json

    if name in begun_handovers() and name not in cli.client.list_volumes():
        click.echo(begun_handover(name))  # it is past the point where the volume is put aside
        return
    print_status(cli.console, with_lio(cli.client.status(name)))


def _unfinished(statuses: list[VolumeStatus]) -> list[str]:
    """Return what to do about volumes that need a command before they are served."""
    known = {status["volume"] for status in statuses}
    lines = [begun_handover(name) for name in begun_handovers() if name not in known]
    for status in statuses:
        lio = status.get("lio", {"state": ""})["state"]
        if lio == "skipped":
            name = status["volume"]
            lines.append(f"{name} was skipped; bring it back with: tcmu-restore reload {name}")
        elif lio == "handover":
            lines.append(begun_handover(status["volume"]))
    return lines


def _watch(cli: CliContext, name: str | None, *, as_json: bool) -> None:
    if name is None or as_json:
        raise click.UsageError("--watch follows one volume on a screen: give its name, no --json.")
    if not cli.console.is_terminal:
        raise click.UsageError("--watch needs a terminal; in a script use: status NAME --json")
    from .status_feed import StatusFeed  # noqa: PLC0415 - as above
    from .watch import watch  # noqa: PLC0415

    watch(StatusFeed(name, cli.bus_address), cli.console)
