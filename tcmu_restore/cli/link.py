"""Both links as people type them: options of ``create`` and ``attach-snapshot``; ``link down``.

The targetcli nodes take the same settings through :func:`parse_setting`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from ..service.contract import LINK_SETTINGS
from .context import CliContext
from .size import parse_size

_BLANKS: Final = " \t\r\n"
_NUMBER: Final = re.compile("[0-9]{1,9}", re.ASCII)
"""What is too large or too small is the service's to say; any of these fits the D-Bus type."""


def parse_setting(name: str, text: str, *, between: str = _BLANKS) -> Any:
    """Return the value of a link's setting *name*; the characters *between* part a list's words.

    Raises:
        ValueError: it is not of the setting's kind; the text says why.
    """
    kind = LINK_SETTINGS[name]
    if kind == "as":
        return _words(text, between)
    if kind == "t":
        return parse_size(text)
    if kind == "u":
        return _number(text)
    return text


def _words(text: str, between: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = between, True, ""
    return list(lexer)


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:20]!r} is not a number of 1 to 9 digits")
    return int(text)


def _parse_option(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return parse_setting(str(param.name), text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", ctx, param) from error


def _option(name: str, metavar: str, text: str, setting: str | None = None) -> Any:
    names = [name] if setting is None else [name, setting]
    return click.option(*names, metavar=metavar, callback=_parse_option, help=text)


_WORDS: Final = "Words as in a shell, but no shell runs them; no secrets, they show in ps."

_LIVE: Final = (
    click.option(
        "--portal",
        "portals",
        multiple=True,
        metavar="HOST[:PORT]",
        help="Another portal of the same target, tried when one is dead; may be repeated.",
    ),
    _option("--interface", "NAME", "Reach it over this interface only."),
    _option("--source-address", "ADDRESS", "Connect from this address."),
    _option("--sessions", "NUMBER", "iSCSI sessions; 1 to a backup, 2 to a snapshot by default."),
    click.option(
        "--header-digest", is_flag=True, default=None, help="Checksum the iSCSI headers (CRC32C)."
    ),
    _option("--rate-max", "BYTES", "Background work sends at most so much a second over it."),
)
_BULK: Final = (
    *_LIVE,
    _option("--link-up", "COMMAND", f"Brings the link up. {_WORDS}"),
    _option("--link-down", "COMMAND", "Takes it down when the merge is over."),
    _option(
        "--link-timeout",
        "SECONDS",
        "A link command that takes longer is killed; 30 if not given.",
        "link_timeout_seconds",
    ),
)

_Command = Callable[..., None]


def live_link_options(command: _Command) -> _Command:
    """Give *command* the options of the live link."""
    return _with(_LIVE, command)


def bulk_link_options(command: _Command) -> _Command:
    """Give *command* the options of the bulk link."""
    return _with(_BULK, command)


def _with(options: tuple[Callable[[_Command], _Command], ...], command: _Command) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def link_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the link that were given among *options*."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if "portals" in given:
        given["portals"] = list(given["portals"])
    return given


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
