"""``tcmu-restore restore-from``: snapshot, export, attach, merge, detach, delete in one command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .context import CliContext
from .extent import extent_option
from .restore_settings import RestoreSettings, make_settings
from .size import size_option
from .snapshot import CREDENTIALS_OPTION

if TYPE_CHECKING:
    from .restore_run import RestoreRun


@click.command("restore-from")
@click.argument("name")
@click.argument("backup_host", required=False)
@click.option("--user", default="root", show_default=True, help="Who logs in; others use sudo.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of SSH, if not 22.")
@click.option("--key", metavar="FILE", help="Private SSH key; else the agent's or the usual ones.")
@click.option("--known-hosts", metavar="FILE", help="Host keys; else the user's and the system's.")
@click.option("--login", metavar="FILE", help="targetd: root-only file with its user and password.")
@click.option("--origin", metavar="KIND/NAME", help="What the backup is there; else found out.")
@click.option("--target", metavar="IQN", help="Of the snapshot's target; by default made up.")
@click.option("--portal", metavar="ADDRESS[:PORT]", help="Where it is exported: its own link.")
@extent_option("Only these bytes; may be repeated.")
@click.option("--partition", type=click.IntRange(min=1), help="Only this partition.")
@click.option("--provider", metavar="NAME", help="lvm-thin, lvm or reflink; else what fits.")
@size_option("--size", "A classic LVM snapshot's own area.")
@CREDENTIALS_OPTION
@click.option("--abort", is_flag=True, help="Remove an unfinished restore, here and there.")
@click.option("--forget", is_flag=True, help="With --abort: even if the backup host is gone.")
@click.pass_obj
def restore_from(  # noqa: PLR0913, PLR0917 - one parameter an option
    cli: CliContext,
    name: str,
    backup_host: str | None,
    user: str,
    port: int | None,
    key: str | None,
    known_hosts: str | None,
    login: str | None,
    origin: str | None,
    target: str | None,
    portal: str | None,
    extents: tuple[tuple[int, int], ...],
    partition: int | None,
    provider: str | None,
    size: int | None,
    credentials: str | None,
    abort: bool,
    forget: bool,
) -> None:
    """Restore volume NAME from a snapshot that is taken on BACKUP_HOST now, to the end.

    BACKUP_HOST is reached over SSH with a key, and has this package too; or it is the URL of
    targetd's API there, https://HOST:18700/targetrpc. Its host key must be known.

    Interrupted, by whatever, the same command goes on; --abort removes everything instead.
    """
    from .restore_run import RestoreRun  # noqa: PLC0415 - rich and D-Bus take their time

    run = RestoreRun(client=cli.client, console=cli.console, folder=cli.state_dir, sleep=cli.sleep)
    if abort or forget:
        _abort(run, name, backup_host, forget=forget, is_abort=abort)
        return
    settings = make_settings(
        address=backup_host,
        user=user,
        port=port,
        key=key,
        known_hosts=known_hosts,
        login=login,
        origin=origin,
        target=target,
        portal=portal,
        extents=extents or None,
        partition=partition,
        provider=provider,
        size=size,
        credentials=credentials,
    )
    _restore(cli, run, name, settings)


def _restore(cli: CliContext, run: RestoreRun, name: str, settings: RestoreSettings | None) -> None:
    try:
        status = run.restore(name, settings)
    except BaseException:  # Ctrl-C as well
        if run.is_unfinished(name):
            from .restore_run import unfinished_lines  # noqa: PLC0415 - as above

            click.echo("\n" + "\n".join(unfinished_lines(name)), err=True)
        raise
    if status is None:
        cli.console.print(f"Nothing of {name} is lost; nothing was done.", highlight=False)
    else:
        cli.console.print("Merged; nothing is left on the backup host.", highlight=False)
        cli.console.print(status["advice"], markup=False, highlight=False)


def _abort(
    run: RestoreRun, name: str, backup_host: str | None, *, forget: bool, is_abort: bool
) -> None:
    if not is_abort or backup_host is not None:
        raise click.UsageError("To remove an unfinished restore: NAME --abort [--forget]")
    removed = run.abort(name, forget=forget)
    what = "Removed; what is merged stays." if removed else "There is no unfinished restore."
    run.console.print(f"{name}: {what}", markup=False, highlight=False)
