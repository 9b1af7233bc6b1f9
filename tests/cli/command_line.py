"""Runs ``tcmu-restore`` in this process, with a terminal in memory and no waiting."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from click.testing import CliRunner
from rich.console import Console

from tcmu_restore.cli.context import CliContext
from tcmu_restore.cli.main import cli
from tests.cli.fake_lio import FakeLio


@dataclass
class Outcome:
    status: int
    out: str
    err: str


@dataclass
class CommandLine:
    bus_address: str
    lio: FakeLio | None
    terminal: io.StringIO
    slept: list[float] = field(default_factory=list)
    on_sleep: type[BaseException] | None = None
    answer: str | None = None
    slow_seconds: float = 60.0
    state_dir: Path = Path("/nowhere")
    rtslib: ModuleType | None = None

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.on_sleep is not None:
            raise self.on_sleep

    def __call__(self, *arguments: str) -> Outcome:
        context = CliContext(
            self.bus_address,
            sleep=self.sleep,
            load_storage_object_class=lambda: self.lio and self.lio.storage_object_class,
            load_rtslib=lambda: self.rtslib,
            make_console=lambda: Console(file=self.terminal, width=100),
            slow_seconds=self.slow_seconds,
            state_dir=self.state_dir,
        )
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            result = CliRunner().invoke(
                cli, arguments, input=self.answer, obj=context, catch_exceptions=False
            )
        return Outcome(result.exit_code, result.output + self.terminal.getvalue(), err.getvalue())
