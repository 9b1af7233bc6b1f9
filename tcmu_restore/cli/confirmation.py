"""Asking a person before something is given up; ``--yes`` is for scripts."""

from __future__ import annotations

import click

from .errors import NotConfirmedError

YES_OPTION = click.option("--yes", is_flag=True, help="Do not ask; for scripts.")


def confirm(verb: str, sentences: list[str]) -> None:
    """Print what would be done and ask whether to do it.

    Raises:
        NotConfirmedError: The answer is not yes, or there is nobody to answer.
    """
    for sentence in sentences:
        click.echo(sentence)
    try:
        is_agreed = click.confirm("Go on?")
    except click.Abort:  # Ctrl-C, or the end of a script's input
        click.echo()
        is_agreed = False
    if not is_agreed:
        raise NotConfirmedError(verb)
