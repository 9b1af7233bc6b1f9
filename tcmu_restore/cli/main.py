"""``tcmu-restore``: the command line. Each verb is one call of the service, or two.

Exit statuses are in ``exit_status``. ``status --json`` is the documented interface for scripts
(docs/status-json.md); everything else that is printed is for people and may change.
"""

from __future__ import annotations

from typing import Any

import click

from ..service.contract import MIRROR_MODES
from . import lio
from .backup_snapshot import snapshot_create, snapshot_delete, snapshot_list
from .completion import complete_volumes, completion
from .context import CliContext, SentenceGroup
from .creation import CreatedVolume, VolumeSettings
from .creation import create as create_volume
from .handler_setup import install_handler, uninstall_handler
from .handover import handover
from .link import link, link_settings, live_link_options
from .loss import accept_outdated, declare_lost, replace_primary
from .map import show_map
from .merge import merge
from .metrics import metrics
from .protect import protect
from .reload import reload
from .resize import resize
from .restore_from import restore_from
from .resync import resync
from .snapshot import CREDENTIALS_OPTION, attach_snapshot, detach_snapshot, prepare_snapshot
from .snapshot_export import snapshot_export
from .state import state
from .status import status
from .verify import verify


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
@CREDENTIALS_OPTION
@click.option(
    "--mirror",
    type=click.Choice(MIRROR_MODES),
    default=MIRROR_MODES[0],
    show_default=True,
    help="What a write waits for: both sides, the primary alone while the backup is away (sync); "
    "the primary, the backup soon after (async); both sides, always (strict).",
)
@live_link_options
@click.pass_obj
def create(
    cli: CliContext,
    /,
    name: str,
    primary: str,
    backup: str,
    credentials: str | None,
    mirror: str,
    **link: Any,
) -> None:
    """Define volume NAME, make its LIO backstore, and say how to export it.

    All bytes of the volume count as lost: they come from the backup until they are local. The
    options of the link say how the backup is reached, now and later: they go into [backup] of the
    volume's definition.
    """
    settings = VolumeSettings(
        primary=primary,
        backup=backup,
        credentials=credentials,
        mirror=mirror,
        link=link_settings(link),
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


for _verb in (
    status,
    show_map,
    metrics,
    replace_primary,
    declare_lost,
    accept_outdated,
    prepare_snapshot,
    attach_snapshot,
    detach_snapshot,
    snapshot_create,
    snapshot_list,
    snapshot_delete,
    snapshot_export,
    restore_from,
    merge,
    resync,
    verify,
    resize,
    protect,
    handover,
    reload,
    link,
    state,
    install_handler,
    uninstall_handler,
    completion,
):
    cli.add_command(_verb)
complete_volumes(cli)


def main() -> None:
    """Run the command line."""
    cli(prog_name="tcmu-restore")
