"""``status --watch``: a volume's status on the whole screen, drawn anew about once a second.

The alternate screen is used, so that the terminal is afterwards what it was. The service may be
restarted meanwhile: what it said last stays on the screen, marked as old, until it answers again.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from rich.console import Console, RenderableType
from rich.live import Live

from ..errors import ServiceUnavailableError
from ..service.registry_seam import VolumeStatus
from .exit_status import ExitStatus
from .status_view import live_screen
from .trend import Trend

REFRESH_SECONDS: Final = 1.0


class Feed(Protocol):
    """Where statuses come from; see ``status_feed.StatusFeed``."""

    async def read(self) -> VolumeStatus:
        """Return the status as it is now. Raises ServiceUnavailableError, ReplyError."""
        ...

    async def wait(self, seconds: float) -> None:
        """Return after *seconds*, or sooner when there is news."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


def _local_time() -> datetime:
    return datetime.now().astimezone()


class Watcher:
    """What a watch knows: the last status, since when nobody answers, and the trend."""

    def __init__(
        self,
        feed: Feed,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = _local_time,
    ) -> None:
        self._feed = feed
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._trend = Trend()
        self._status: VolumeStatus | None = None
        self._read_at = wall_clock()
        self._problem = ""

    async def look(self) -> None:
        """Read the status. Raises ReplyError; ServiceUnavailableError the first time only."""
        try:
            self._status = await self._feed.read()
        except ServiceUnavailableError as error:
            if self._status is None:
                raise
            self._problem = str(error)
            return
        self._trend.take(self._status, self._monotonic())
        self._read_at = self._wall_clock()
        self._problem = ""

    def screen(self, console: Console) -> RenderableType:
        """Return what is to be seen now, fitted to the height of *console*."""
        assert self._status is not None
        moment = f"{self._read_at:%H:%M:%S}"
        note = f"as of {moment}; Ctrl-C leaves"
        if self._problem:
            note = f"No answer since {moment}; trying again. {self._problem}"
        return live_screen(
            console, self._status, self._trend, note=note, is_old=bool(self._problem)
        )


def watch(feed: Feed, console: Console) -> None:
    """Follow a volume until Ctrl-C, which is raised as KeyboardInterrupt, or SIGTERM.

    Raises:
        SystemExit: It was terminated; the terminal is what it was.
        ServiceUnavailableError: Nobody answers to begin with.
        ReplyError: The service refuses; there is no such volume, or no longer.
    """
    try:
        asyncio.run(_watch(feed, console))
    except asyncio.CancelledError:
        raise SystemExit(ExitStatus.TERMINATED) from None


async def _watch(feed: Feed, console: Console) -> None:
    watcher = Watcher(feed)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await watcher.look()
        with Live(
            watcher.screen(console), console=console, screen=True, auto_refresh=False
        ) as live:
            while True:
                live.update(watcher.screen(console), refresh=True)
                await feed.wait(REFRESH_SECONDS)
                await watcher.look()
    finally:
        await feed.close()
