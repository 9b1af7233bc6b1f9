"""``tcmu-restore map``: a picture of a volume's address space, on the terminal or as a file."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import click

from .context import CliContext
from .errors import PictureError
from .map_kinds import Map

_ROWS: Final = 16

_LABEL_WIDTH: Final = 11
"""The offset at the begin of each line."""

_COLUMNS_DEFAULT: Final = 64


@click.command("map")
@click.argument("name")
@click.option("--png", "path", metavar="FILE", help="Write a picture instead; needs matplotlib.")
@click.option(
    "--columns",
    type=click.IntRange(8, 512),
    help="Cells a line on the terminal, if not as many as fit, 64 at most.",
)
@click.pass_obj
def show_map(cli: CliContext, name: str, path: str | None, columns: int | None) -> None:
    """Draw where volume NAME is current, host-written, lost, stale, in doubt or outdated."""
    moment = datetime.now().astimezone()
    if path is not None:
        _save(cli, name, path, moment)
        return
    from .map_view import print_map  # noqa: PLC0415 - rich, for its colours

    wanted = columns or max(8, min(_COLUMNS_DEFAULT, cli.console.width - _LABEL_WIDTH))
    found = Map.of(cli.client.map(name, wanted * _ROWS))
    print_map(cli.console, found, columns=wanted, moment=moment)


def _save(cli: CliContext, name: str, path: str, moment: datetime) -> None:
    try:
        from . import map_picture  # noqa: PLC0415 - matplotlib is an optional extra
    except ImportError as error:
        reason = "matplotlib is missing; install it with: pip install 'tcmu-restore[picture]'"
        raise PictureError(path, reason) from error
    found = Map.of(cli.client.map(name, map_picture.CELLS))
    try:
        map_picture.save_picture(found, path, moment)
    except OSError as error:
        raise PictureError(path, error.strerror or str(error)) from error
    click.echo(f"The map of {name} is in {path}")
