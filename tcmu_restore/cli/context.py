"""What every verb gets, and the group that ends each error in one sentence and one exit status."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from ..errors import RestoreError
from ..installed_rtslib import load_rtslib
from ..options import SLOW_SECONDS, STATE_DIR
from . import lio
from .errors import NoRtslibError
from .exit_status import ExitStatus, exit_status

if TYPE_CHECKING:
    from rich.console import Console

    from ..snapshots.host import Host
    from .client import ServiceClient


def _this_host() -> Host:
    from ..snapshots.host import this_host  # noqa: PLC0415 - only the backup host's verbs need it

    return this_host()


def _terminal() -> Console:
    from rich.console import Console  # noqa: PLC0415 - tens of milliseconds

    return Console()


@dataclass(slots=True)
class CliContext:
    """The outside world of one run; tests put their own clock and LIO in."""

    bus_address: str | None = None
    state_dir: Path = STATE_DIR
    sleep: Callable[[float], None] = time.sleep
    load_storage_object_class: Callable[[], Any | None] = lio.load_storage_object_class
    make_snapshot_host: Callable[[], Host] = _this_host
    load_rtslib: Callable[[], ModuleType | None] = load_rtslib
    make_console: Callable[[], Console] = _terminal
    slow_seconds: float = SLOW_SECONDS
    _console: Console | None = field(default=None, init=False)

    @property
    def client(self) -> ServiceClient:
        """A client of the running service."""
        from .client import ServiceClient  # noqa: PLC0415 - D-Bus takes tens of milliseconds

        return ServiceClient(
            self.bus_address, slow_seconds=self.slow_seconds, on_slow=say_what_is_awaited
        )

    def rtslib(self, verb: str) -> ModuleType:
        """Return rtslib for *verb*. Raises NoRtslibError."""
        rtslib = self.load_rtslib()
        if rtslib is None:
            raise NoRtslibError(verb)
        return rtslib

    @property
    def console(self) -> Console:
        """Standard output."""
        if self._console is None:
            self._console = self.make_console()
        return self._console


def say_what_is_awaited() -> None:
    """Tell a person that something happens, when it takes long."""
    click.echo("Waiting for the service to finish; Ctrl-C stops the waiting only.", err=True)


class SentenceGroup(click.Group):
    """A group whose verbs' errors go to standard error as one sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; an error of ours ends in its exit status."""
        try:
            return super().invoke(ctx)
        except RestoreError as error:
            click.echo(f"tcmu-restore: {error}", err=True)
            ctx.exit(exit_status(error))
        except KeyboardInterrupt:
            ctx.exit(ExitStatus.INTERRUPTED)
