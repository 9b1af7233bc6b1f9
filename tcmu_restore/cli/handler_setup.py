"""``tcmu-restore install-handler`` and ``uninstall-handler``."""

from __future__ import annotations

from pathlib import Path

import click

_DIRECTORY = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="tcmu-runner's plugin folder; found by itself if not given.",
)


@click.command("install-handler")
@_DIRECTORY
def install_handler(directory: Path | None) -> None:
    """Build the handler and put it into tcmu-runner's plugin folder."""
    from ..handler import install  # noqa: PLC0415 - only this verb needs a compiler

    places = install.find_places(directory)
    click.echo("Building the handler; a compiler needs some seconds for it.", err=True)
    _print(install.install_handler(places))


@click.command("uninstall-handler")
@_DIRECTORY
def uninstall_handler(directory: Path | None) -> None:
    """Remove the handler from tcmu-runner's plugin folder."""
    from ..handler import install  # noqa: PLC0415 - see install_handler

    _print(install.uninstall_handler(install.find_places(directory)))


def _print(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)
