"""The live look: it follows, says when nobody answers, goes on, and leaves the terminal alone."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from rich.console import Console

from tcmu_restore.cli.errors import ReplyError
from tcmu_restore.cli.status_feed import StatusFeed
from tcmu_restore.cli.trend import SourceRate, Trend
from tcmu_restore.cli.watch import Watcher, watch
from tcmu_restore.errors import ServiceUnavailableError, StateCorruptError
from tcmu_restore.service.registry_seam import VolumeStatus
from tcmu_restore.units import MiB
from tests.cli.command_line import CommandLine
from tests.service.fake_registry import RESYNC, FakeRegistry, conditions, make_status
from tests.service.private_bus import service_thread

ALTERNATE_SCREEN, MAIN_SCREEN, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


def busy_status(**changes: Any) -> VolumeStatus:
    """A volume with something in every row."""
    status = make_status("a", conditions=conditions("degraded", "restoring"), mirror="sync")
    status["regions"] |= {"current": 65536, "lost": 196608, "stale": 3, "in_doubt": 7}
    status["backup"] |= {"read_bytes": 100 * MiB, "written_bytes": 10 * MiB}
    status["resync"] = dict(RESYNC)
    status["events"] = [
        {
            "time": f"2026-01-02T03:04:{second:02}+00:00",
            "word": "merge",
            "sentence": f"Event {second}.",
            "count": 1 + second % 2,
        }
        for second in range(50)
    ]
    return cast(VolumeStatus, status | changes)


class ScriptedFeed:
    """Answers by a script, the last answer for ever; a KeyboardInterrupt is Ctrl-C."""

    def __init__(self, *script: VolumeStatus | BaseException) -> None:
        self.script = list(script)
        self.waited: list[float] = []
        self.is_closed = False

    async def read(self) -> VolumeStatus:
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, BaseException):
            raise step
        return step

    async def wait(self, seconds: float) -> None:
        self.waited.append(seconds)

    async def close(self) -> None:
        self.is_closed = True


def make_console(height: int = 40) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=100, height=height, force_terminal=True), out


def screen_text(watcher: Watcher, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), width=100, height=height)
    console.print(watcher.screen(console))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def make_watcher(feed: ScriptedFeed) -> Watcher:
    seconds = iter(range(1000))
    wall_clock = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return Watcher(feed, monotonic=lambda: float(next(seconds)), wall_clock=lambda: wall_clock)


def test_screen_shows_everything_and_as_many_events_as_fit() -> None:
    watcher = make_watcher(ScriptedFeed(busy_status()))
    asyncio.run(watcher.look())
    lines = screen_text(watcher)
    text = "\n".join(lines)
    assert lines[0] == "as of 03:04:05; Ctrl-C leaves"
    for words in ("degraded, restoring", "in doubt", "768 MiB", "28 KiB", "4 s left"):
        assert words in text
    assert len(lines) == 40
    assert "Event 49. (2 times)" in text
    assert "Event 0." not in text


def test_low_screen_keeps_what_matters_and_drops_events() -> None:
    watcher = make_watcher(ScriptedFeed(busy_status()))
    asyncio.run(watcher.look())
    lines = screen_text(watcher, height=10)
    assert any("What to do when degraded." in line for line in lines[:10])  # the rest is cut off
    assert "Event" not in "\n".join(lines)


def test_rate_of_a_source_is_what_was_measured_between_looks() -> None:
    later = busy_status()
    later["backup"]["read_bytes"] = 130 * MiB
    watcher = make_watcher(ScriptedFeed(busy_status(), later))
    asyncio.run(watcher.look())
    assert "now" not in "\n".join(screen_text(watcher))
    asyncio.run(watcher.look())
    assert "now 30 MiB/s read" in " ".join("".join(screen_text(watcher)).split())


def test_trend_forgets_what_was_before_a_restart_and_what_is_long_ago() -> None:
    trend, status = Trend(), busy_status()
    for second in range(30):
        status["backup"]["read_bytes"] = second * second
        trend.take(status, float(second))
    assert trend.rate("backup") == SourceRate((29 * 29 - 19 * 19) / 10, 0.0)
    status["backup"]["read_bytes"] = 5
    trend.take(status, 30.0)
    assert trend.rate("backup") is None
    assert trend.rate("snapshot") is None


def test_resync_bar_begins_with_the_most_that_was_left() -> None:
    trend, status = Trend(), busy_status()
    trend.take(status, 0.0)
    status["resync"]["bytes_left"] = 3 * MiB
    trend.take(status, 1.0)
    assert trend.fraction_resynced(status) == 0.75
    status["resync"]["bytes_left"] = 0
    trend.take(status, 2.0)
    assert trend.fraction_resynced(status) is None


def test_service_that_is_away_is_said_and_the_last_status_stays() -> None:
    away = ServiceUnavailableError("nobody owns the name")
    watcher = make_watcher(ScriptedFeed(busy_status(), away, busy_status()))
    asyncio.run(watcher.look())
    asyncio.run(watcher.look())
    text = " ".join("\n".join(screen_text(watcher)).split())
    assert "nobody owns the name" in text
    assert "No answer since 03:04:05; trying again." in text
    assert "degraded, restoring" in text
    asyncio.run(watcher.look())
    assert "trying again" not in "\n".join(screen_text(watcher))


def test_service_that_is_away_from_the_start_is_an_error() -> None:
    feed = ScriptedFeed(ServiceUnavailableError("nobody owns the name"))
    console, out = make_console()
    with pytest.raises(ServiceUnavailableError):
        watch(feed, console)
    assert feed.is_closed
    assert out.getvalue() == ""


@pytest.mark.parametrize("end", [KeyboardInterrupt(), ReplyError("x", "It is gone.")])
def test_however_it_ends_the_screen_is_given_back(end: BaseException) -> None:
    feed = ScriptedFeed(busy_status(), ServiceUnavailableError("x"), busy_status(), end)
    console, out = make_console()
    with pytest.raises(type(end)):
        watch(feed, console)
    text = out.getvalue()
    assert text.count(ALTERNATE_SCREEN) == text.count(MAIN_SCREEN) == 1
    assert text.rindex(SHOW_CURSOR) > text.rindex("Event")
    assert feed.is_closed
    assert feed.waited == [1.0, 1.0, 1.0]


def test_feed_outlives_the_service_and_is_woken_by_it(
    bus_address: str, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a")

    async def go() -> None:
        feed = StatusFeed("a", bus_address)
        with pytest.raises(ServiceUnavailableError):
            await feed.read()
        for state in ("restoring", "in_sync"):
            registry.volumes["a"]["state"] = state
            serving = service_thread(registry, bus_address)
            await asyncio.to_thread(serving.__enter__)
            assert (await feed.read())["state"] == state
            await feed.wait(0.2)  # what the start told
            registry.on_change("a", state)
            await asyncio.wait_for(feed.wait(3600), 10)
            await asyncio.to_thread(serving.__exit__, None, None, None)
            await asyncio.wait_for(feed.wait(3600), 10)
            with pytest.raises(ServiceUnavailableError):
                await feed.read()
        await feed.close()

    asyncio.run(go())


def test_feed_of_a_damaged_volume_is_a_closed_one_and_of_none_an_error(
    bus_address: str, registry: FakeRegistry
) -> None:
    async def go() -> None:
        feed = StatusFeed("a", bus_address)
        with pytest.raises(ReplyError, match="'a'"):
            await feed.read()
        registry.failures["status"] = StateCorruptError("/x.db", "a bad page")
        status = await feed.read()
        assert (status["state"], "a bad page" in status["advice"]) == ("closed", True)
        await feed.close()

    with service_thread(registry, bus_address):
        asyncio.run(go())


@pytest.mark.parametrize("arguments", [("a", "--watch", "--json"), ("--watch",), ("a", "--watch")])
def test_watch_without_a_name_or_a_terminal_is_a_usage_error(
    command_line: CommandLine, registry: FakeRegistry, arguments: tuple[str, ...]
) -> None:
    assert command_line("status", *arguments).status == 2
    assert registry.calls == []


class WatchedTerminal:
    """``status a --watch`` of the real command on a terminal of its own."""

    def __init__(self, bus_address: str) -> None:
        self.controller, self.terminal = pty.openpty()
        self.before = termios.tcgetattr(self.terminal)
        code = "from tcmu_restore.cli.main import main; main()"
        words = (sys.executable, "-c", code, "--bus-address", bus_address)
        self.process = subprocess.Popen(
            [*words, "status", "a", "--watch"],
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
        )
        self.seen = b""

    def read_until(self, words: bytes) -> None:
        """Read what is shown until it holds *words*."""
        fresh, deadline = b"", time.monotonic() + 20
        while words not in fresh:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self.controller], [], [], left)
            assert ready, f"{words!r} never came; there was {fresh[-500:]!r}"
            fresh += os.read(self.controller, 65536)
        self.seen += fresh

    def check_left_as_it_was(self) -> None:
        """The settings, the cursor and the screen are those from before."""
        self.read_until(MAIN_SCREEN.encode())
        assert termios.tcgetattr(self.terminal) == self.before
        assert self.seen.count(ALTERNATE_SCREEN.encode()) == 1
        assert self.seen.count(MAIN_SCREEN.encode()) == 1
        assert self.seen.rindex(SHOW_CURSOR.encode()) > self.seen.rindex(b"Event 49")
        assert b"Traceback" not in self.seen

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)
        os.close(self.controller)


def test_termination_leaves_the_terminal_as_it_was(
    bus_address: str, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = cast(dict[str, Any], busy_status())
    with service_thread(registry, bus_address), closing(WatchedTerminal(bus_address)) as watched:
        watched.read_until(b"Event 49")
        watched.process.terminate()
        assert watched.process.wait(20) == 143
        watched.check_left_as_it_was()


def test_real_terminal_sees_a_restart_through_and_is_left_as_it_was(
    bus_address: str, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = cast(dict[str, Any], busy_status())
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        first.enter_context(service_thread(registry, bus_address))
        watched = stack.enter_context(closing(WatchedTerminal(bus_address)))
        watched.read_until(b"Event 49")
        first.close()
        watched.read_until(b"No answer since")
        registry.volumes["a"] |= {"conditions": conditions("in_sync")}
        stack.enter_context(service_thread(registry, bus_address))
        watched.read_until(b"when in_sync")
        watched.process.send_signal(signal.SIGINT)
        assert watched.process.wait(20) == 130
        watched.check_left_as_it_was()
