"""Completion in the shell: ``tcmu-restore completion bash``, with names from the service."""

from __future__ import annotations

from typing import Any, Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from ..errors import RestoreError

SHELLS: Final = ("bash", "zsh", "fish")

_TIMEOUT_SECONDS: Final = 2.0
"""A person waits for the key they pressed; without an answer there is nothing to offer."""

_PROGRAM: Final = "tcmu-restore"
_VARIABLE: Final = "_TCMU_RESTORE_COMPLETE"  # click's own rule for this program's name


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options and volumes' names.

    For good, in bash: tcmu-restore completion bash >/etc/bash_completion.d/tcmu-restore
    """
    shell_class = get_completion_class(shell)
    assert shell_class is not None
    click.echo(shell_class(click.Group(), {}, _PROGRAM, _VARIABLE).source())


class VolumeName(click.types.StringParamType):
    """A volume's name; the service is asked for those that begin like it."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that fit; none if the service does not answer."""
        from .client import ServiceClient  # noqa: PLC0415 - D-Bus takes tens of milliseconds

        options: dict[str, Any] = ctx.find_root().params
        client = ServiceClient(options.get("bus_address"), timeout_seconds=_TIMEOUT_SECONDS)
        try:
            names = client.list_volumes()
        except RestoreError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_volumes(group: click.Group) -> None:
    """Let every argument NAME below *group* complete, but for the name of a new volume."""
    for verb, command in group.commands.items():
        if isinstance(command, click.Group):
            complete_volumes(command)
        elif verb != "create":
            for parameter in command.params:
                if isinstance(parameter, click.Argument) and parameter.name == "name":
                    parameter.type = VolumeName()
