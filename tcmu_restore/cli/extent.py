"""Extents as people type them: ``OFFSET:LENGTH``, each a size, as ``1G:512M``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .size import parse_size

_Command = TypeVar("_Command", bound=Callable[..., Any])


def parse_extent(text: str) -> tuple[int, int]:
    """Return offset and length in bytes.

    Raises:
        ValueError: it is not an extent; the text says what one looks like.
    """
    offset, mark, length = text.partition(":")
    if not mark:
        raise ValueError(f"{text!r} is not an extent; write OFFSET:LENGTH, for example 1G:512M")
    return parse_size(offset), parse_size(length)


def extent_option(text: str) -> Callable[[_Command], _Command]:
    """Return ``--extent``, which may be repeated and gives a tuple; *text* is its help."""
    return click.option(
        "--extent",
        "extents",
        metavar="OFFSET:LENGTH",
        multiple=True,
        callback=_parse_option,
        help=text,
    )


def _parse_option(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> tuple[tuple[int, int], ...]:
    try:
        return tuple(parse_extent(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", ctx, param) from error
