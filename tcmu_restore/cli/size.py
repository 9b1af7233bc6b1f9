"""Sizes as people type them: ``4096``, ``4k``, ``1M``, ``2GiB``. Always powers of 1024."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from ..units import GiB, KiB, MiB, TiB

_Command = TypeVar("_Command", bound=Callable[..., Any])

_FORM: Final = re.compile(r"([0-9]+) ?(?:([kmgt])(?:iB)?|B)?", re.ASCII | re.IGNORECASE)

_UNITS: Final = {"": 1, "k": KiB, "m": MiB, "g": GiB, "t": TiB}

SIZE_MAX: Final = 2**64 - 1
"""What a D-Bus number holds; any disk is smaller."""


def parse_size(text: str) -> int:
    """Return a number of bytes. ``kB`` and fractions are refused: they are not exact.

    Raises:
        ValueError: It is not a size; the text says what one looks like.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a number of bytes; write for example 4096, 4k, 1M or 1G")
    size = int(found[1]) * _UNITS[(found[2] or "").lower()]
    if size > SIZE_MAX:
        raise ValueError(f"{text!r} is larger than any disk")
    return size


def size_option(name: str, text: str) -> Callable[[_Command], _Command]:
    """Return a command line option that takes a size; *text* is its help."""
    return click.option(name, metavar="BYTES", callback=_parse_option, help=text)


def _parse_option(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", ctx, param) from error
