"""The bulk link: options of ``attach-snapshot``, and ``link down``."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Final

import click

from .context import CliContext

_WORDS: Final = "Words as in a shell, but no shell runs them; no secrets, they show in ps."

_OPTIONS: Final = (
    click.option(
        "--portal",
        "portals",
        multiple=True,
        metavar="HOST[:PORT]",
        help="Another portal of the same target, tried when one is dead; may be repeated.",
    ),
    click.option("--interface", metavar="NAME", help="Reach it over this interface only."),
    click.option("--source-address", metavar="ADDRESS", help="Connect from this address."),
    click.option("--sessions", type=click.IntRange(min=1), help="iSCSI sessions; 2 if not given."),
    click.option(
        "--header-digest", is_flag=True, default=None, help="Checksum the iSCSI headers (CRC32C)."
    ),
    click.option(
        "--rate-max", type=click.IntRange(min=1), metavar="BYTES", help="At most so much a second."
    ),
    click.option("--link-up", metavar="COMMAND", help=f"Brings the link up. {_WORDS}"),
    click.option("--link-down", metavar="COMMAND", help="Takes it down when the merge is over."),
    click.option(
        "--link-timeout",
        "link_timeout_seconds",
        type=click.IntRange(min=1),
        metavar="SECONDS",
        help="A link command that takes longer is killed; 30 if not given.",
    ),
)


def link_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* the options of the bulk link."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def link_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the bulk link that were given among *options*."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    for name in ("link_up", "link_down"):
        if name in given:
            given[name] = _split(name, given[name])
    if "portals" in given:
        given["portals"] = list(given["portals"])
    return given


def _split(name: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        option = f"--{name.replace('_', '-')}"
        raise click.BadParameter(f"{error}.", param_hint=f"'{option}'") from None


@click.group()
def link() -> None:
    """The bulk link, which attach-snapshot and merge bring up by a command."""


@link.command()
@click.argument("name")
@click.pass_obj
def down(cli: CliContext, name: str) -> None:
    """Take the bulk link of volume NAME down with the command that belongs to it."""
    cli.client.link_down(name)
    click.echo("The bulk link is down.")
