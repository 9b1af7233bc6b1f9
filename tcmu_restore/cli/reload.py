"""``tcmu-restore reload``: brings back what was skipped when LIO's configuration was restored."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import click

from ..errors import WrongStateError
from . import lio_restore
from .condition import is_state_damaged
from .context import CliContext
from .errors import LioError, NothingSavedError
from .saved_config import find_volume, save_file

if TYPE_CHECKING:
    from .client import ServiceClient


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def reload(cli: CliContext, name: str | None) -> None:
    """Bring back volume NAME, or every volume that was skipped at boot, with LUNs and ACLs.

    For a volume that could not be opened then and can be now. Its backstore is looked for in the
    saved LIO configuration, and then in the older copies that targetcli keeps.
    """
    rtslib = cli.rtslib("reload")
    names = [name] if name is not None else lio_restore.find_skipped(rtslib)
    if not names:
        click.echo("Every saved volume is loaded.")
    for one in names:
        for line in reload_volume(cli.client, rtslib, one):
            click.echo(line)


def reload_volume(client: ServiceClient, rtslib: ModuleType, name: str) -> list[str]:
    """Make the backstore of *name* and its LUNs as they were saved; return what was done.

    Raises:
        RestoreError: The service is not there, or says that the volume cannot be opened.
        NothingSavedError: No saved configuration knows it.
        LioError: The backstore cannot be made, or a LUN of it; the rest was made.
        SavedConfigError: The saved configuration cannot be read.
    """
    _check_openable(client, name)
    saved = find_volume(name, save_file())
    if saved is None:
        raise NothingSavedError(name)
    loaded = lio_restore.loaded_volume(rtslib, name)
    if loaded is None:
        lio_restore.create_object(rtslib, saved.storage_object)
    wanted = saved.storage_object["name"]
    made = next(one for one in rtslib.RTSRoot().storage_objects if _is(one, wanted))
    problems = lio_restore.map_luns(rtslib, saved.luns, made)
    if saved.saved_in != save_file():
        lio_restore.save(rtslib)
    if problems:
        raise LioError(f"a part of {name!r}", " ".join(problems).rstrip("."))
    where = "was loaded" if loaded is not None else f"was made as in {saved.saved_in}"
    return [f"{name}: the backstore {where}; LUNs: {len(saved.luns)}."]


def _check_openable(client: ServiceClient, name: str) -> None:
    """Raise what the service knows against opening *name*: LIO's own refusal says nothing."""
    status = client.status(name)
    if is_state_damaged(status):
        raise WrongStateError(name, "reload", str(status["state_file"]["error"]).rstrip("."))


def _is(storage_object: object, name: str) -> bool:
    plugin = getattr(storage_object, "plugin", None)
    return plugin == "user" and getattr(storage_object, "name", None) == name
