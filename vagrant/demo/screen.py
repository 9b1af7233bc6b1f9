"""What the demo shows while it runs: rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vagrant.demo.samples import Latency, Sample

_PLAIN_PERIOD_SECONDS = 5.0
_BAR_WIDTH = 40
_MIB = 1 << 20


@dataclass(frozen=True)
class Snapshot:
    """What is to be shown at one moment."""

    sample: Sample
    share_percent: float | None
    latency: Latency | None
    files: dict[str, int]


class Screen:
    """Says what happens, with the seconds since the start."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._start = time.monotonic()
        self._live: Live | None = None
        self._last_plain = 0.0

    def say(self, text: str, style: str = "") -> None:
        """Print one line."""
        line = Text(f"{time.monotonic() - self._start:6.1f} s  ", style="dim")
        line.append(text, style=style or "not dim")
        self.console.print(line, soft_wrap=True)

    def title(self, text: str) -> None:
        """Print a heading."""
        self.console.print(Text(f"\n{text}", style="bold cyan"))

    @contextmanager
    def phase(self, text: str) -> Iterator[None]:
        """Show that something is under way; say how long it took when it has ended."""
        start = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(text):
                yield
        else:
            yield
        self.say(f"{text} ({time.monotonic() - start:.1f} s)")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep a few lines at the bottom that `show` changes; lines said stand above them."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=4) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def show(self, now: Snapshot) -> None:
        """Show the volume's state, at most every few seconds where lines cannot be changed."""
        if self._live is not None:
            self._live.update(Group(Text(_served(now)), Text(_work(now)), _merge_bar(now.sample)))
        elif time.monotonic() - self._last_plain >= _PLAIN_PERIOD_SECONDS:
            self._last_plain = time.monotonic()
            self.say(f"{_served(now)}; {_work(now)}; merge {_merge_words(now.sample)}")


def _served(now: Snapshot) -> str:
    share = "" if now.share_percent is None else f"{now.share_percent:.0f} % served locally, "
    sample = now.sample
    return f"{share}{sample.local_reads} reads from primary, {sample.remote_reads} from backup"


def _work(now: Snapshot) -> str:
    words = [f"{now.files.get('verified', 0)} files verified"]
    words += [f"{now.files.get(name, 0)} {name}" for name in ("written", "overwritten", "deleted")]
    if now.latency is not None and now.latency.milliseconds is not None:
        words.append(f"last read {now.latency.milliseconds:.1f} ms")
    return ", ".join(words)


def _merge_bar(sample: Sample) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=1.0, completed=sample.fraction_current, width=_BAR_WIDTH)
    grid.add_row("merge", bar, _merge_words(sample))
    return grid


def _merge_words(sample: Sample) -> str:
    current = f"{int(100 * sample.fraction_current)} % current"
    if sample.merge_state != "running":
        return f"{current}, {sample.merge_state}"
    rate, left = sample.merge["rate_bytes_per_second"], sample.merge["seconds_left"]
    end = "time left unknown" if left is None else f"{left:.0f} s left"
    return f"{current}, {rate / _MIB:.1f} MiB/s, {sample.merge['reason'] or end}"
