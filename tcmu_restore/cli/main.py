"""``tcmu-restore``: the command line. Each verb is one call of the service, or two.

Exit statuses are in ``exit_status``. ``status --json`` is the documented interface for scripts;
everything else that is printed is for people and may change.
"""

from __future__ import annotations

import json

import click

from . import lio
from .context import CliContext, SentenceGroup
from .creation import CreatedVolume, VolumeSettings
from .creation import create as create_volume
from .handler_setup import install_handler, uninstall_handler
from .merge import merge
from .status_view import print_overview, print_status

_CREDENTIALS = click.option(
    "--credentials",
    metavar="FILE",
    help="Root-only file with the CHAP names and secrets.",
)


@click.group(cls=SentenceGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--bus-address",
    metavar="ADDRESS",
    help="Another bus than the system bus (or set DBUS_SYSTEM_BUS_ADDRESS).",
)
@click.version_option(package_name="tcmu-restore", prog_name="tcmu-restore")
@click.pass_context
def cli(ctx: click.Context, bus_address: str | None) -> None:
    """Restore LUNs of this host while initiators use them."""
    context = ctx.ensure_object(CliContext)
    context.bus_address = bus_address or context.bus_address


@cli.command()
@click.argument("name")
@click.option("--primary", required=True, metavar="PATH", help="The new, empty local disk or file.")
@click.option("--backup", required=True, metavar="URL", help="iscsi://HOST[:PORT]/IQN/LUN")
@_CREDENTIALS
@click.option("--header-digest", is_flag=True, help="Checksum the iSCSI headers (CRC32C).")
@click.pass_obj
def create(
    cli: CliContext,
    name: str,
    primary: str,
    backup: str,
    credentials: str | None,
    header_digest: bool,
) -> None:
    """Define volume NAME, make its LIO backstore, and say how to export it.

    All bytes of the volume count as lost: they come from the backup until they are local.
    """
    settings = VolumeSettings(
        primary=primary, backup=backup, credentials=credentials, header_digest=header_digest
    )
    created = create_volume(cli.client, cli.load_storage_object_class(), name, settings)
    for line in _next_lines(created):
        click.echo(line)


def _next_lines(created: CreatedVolume) -> list[str]:
    name = created.name
    if created.storage_object is None:
        steps = lio.create_lines(name, created.size, created.block_size) + lio.export_lines(name)
        return [f"Defined {name!r}, {created.size} bytes. rtslib is not here; now run:", *steps]
    return [f"Created {name!r}, {created.size} bytes. Export it with:", *lio.export_lines(name)]


@cli.command()
@click.argument("name")
@click.pass_obj
def delete(cli: CliContext, name: str) -> None:
    """Forget volume NAME: its definition and its overwrite map. The disks are not touched.

    Its LIO backstore must be gone: targetcli /backstores/user:restore delete NAME
    """
    cli.client.delete_volume(name)


@cli.command("list")
@click.pass_obj
def list_volumes(cli: CliContext) -> None:
    """Print the names of all volumes."""
    for name in cli.client.list_volumes():
        click.echo(name)


@cli.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, with stable keys.")
@click.pass_obj
def status(cli: CliContext, name: str | None, as_json: bool) -> None:
    """Show volume NAME on one screen, or all volumes in a table.

    With --json: one object for NAME, a list of objects for all.
    """
    client = cli.client
    if name is not None:
        one = client.status(name)
        if as_json:
            click.echo(json.dumps(one, indent=2))
        else:
            print_status(cli.console, one)
        return
    every = [client.status(volume) for volume in client.list_volumes()]
    if as_json:
        click.echo(json.dumps(every, indent=2))
    else:
        print_overview(cli.console, every)


@cli.command("attach-snapshot")
@click.argument("name")
@click.argument("snapshot")
@_CREDENTIALS
@click.pass_obj
def attach_snapshot(cli: CliContext, name: str, snapshot: str, credentials: str | None) -> None:
    """Let volume NAME use SNAPSHOT, an iscsi:// URL or the path of a disk or file.

    It must have been taken from the backup after the loss.
    """
    cli.client.attach_snapshot(name, snapshot, credentials=credentials)
    click.echo(f"Attached. Copy it with: tcmu-restore merge start {name} --wait")


@cli.command("detach-snapshot")
@click.argument("name")
@click.pass_obj
def detach_snapshot(cli: CliContext, name: str) -> None:
    """Stop using the snapshot of volume NAME, so that it can be removed."""
    cli.client.detach_snapshot(name)


cli.add_command(merge)
cli.add_command(install_handler)
cli.add_command(uninstall_handler)


def main() -> None:
    """Run the command line."""
    cli(prog_name="tcmu-restore")
