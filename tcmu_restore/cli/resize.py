"""``tcmu-restore resize``: the volume takes its backup's size, and then LIO does."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import click

from ..options import SUBTYPE
from ..units import format_size
from . import lio_restore
from .context import CliContext

if TYPE_CHECKING:
    from .client import ServiceClient


@click.command()
@click.argument("name")
@click.pass_obj
def resize(cli: CliContext, name: str) -> None:
    """Let volume NAME grow to the size of its backup.

    To be run when the backup and the local disk have grown. Initiators see the new size when they
    rescan. If it was interrupted, run it again.
    """
    for line in resize_volume(cli.client, cli.load_rtslib(), name):
        click.echo(line)


def resize_volume(client: ServiceClient, rtslib: ModuleType | None, name: str) -> list[str]:
    """Let *name* grow, then its backstore, then save; return what was done, a sentence each.

    The volume's size is durable before LIO's changes, so whatever interrupts this leaves a volume
    that opens.

    Raises:
        RestoreError: Refused, and the volume has its old size; or LioError, and the backstore has.
    """
    size = client.resize(name)
    done = [f"{name} has {size} bytes ({format_size(size)})."]
    if rtslib is None:
        node = f"targetcli /backstores/user:{SUBTYPE}/{name}"
        steps = [f"{node} set attribute dev_size={size}", "targetcli saveconfig"]
        return [*done, "rtslib is not here; now run:", *steps]
    found = lio_restore.find_object(rtslib, name)
    if found.size != size:
        with lio_restore.lio_errors(f"the new size of {name!r}"):
            found.set_attribute("dev_size", size)
        done.append("Let the initiators rescan, such as with: iscsiadm -m session --rescan")
    lio_restore.save(rtslib)
    return done
