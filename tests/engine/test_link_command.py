"""Commands that bring a link up: real processes that end, fail, hang and leave daemons behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest

from tcmu_restore.engine.link_command import OUTPUT_LENGTH_MAX, run_link_command
from tcmu_restore.errors import LinkCommandError

SHELL = "/bin/sh"


def run(*argv: str, seconds: float = 20) -> None:
    asyncio.run(run_link_command(argv, seconds))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_command_runs_without_a_shell(tmp_path: Path) -> None:
    run("/usr/bin/touch", str(tmp_path / "a; b $HOME"))
    assert (tmp_path / "a; b $HOME").exists()


def test_failure_says_status_and_last_line() -> None:
    with pytest.raises(LinkCommandError) as caught:
        run(SHELL, "-c", "echo dialling; echo no carrier >&2; exit 3")
    assert str(caught.value).startswith(
        "The link command /bin/sh failed with status 3 (no carrier)."
    )


def test_command_that_ends_by_a_signal_says_which() -> None:
    with pytest.raises(LinkCommandError, match="was ended by SIGTERM"):
        run(SHELL, "-c", "kill $$")


def test_missing_program_is_said() -> None:
    with pytest.raises(LinkCommandError, match="cannot be started: No such file or directory"):
        run("/nonexistent/dial")


def test_hanging_command_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! >{tmp_path}/child; wait"
    with pytest.raises(LinkCommandError, match=r"was killed: it had not ended after 0.5 s"):
        run(SHELL, "-c", script, seconds=0.5)
    assert not is_alive(int((tmp_path / "child").read_text()))


def test_cancelled_command_is_killed(tmp_path: Path) -> None:
    async def main() -> None:
        script = f"echo $$ >{tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; sleep 600"
        task = asyncio.create_task(run_link_command((SHELL, "-c", script), 300))
        while not (tmp_path / "pid").exists():  # noqa: ASYNC110 - a process makes it
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not is_alive(int((tmp_path / "pid").read_text()))

    asyncio.run(main())


def test_daemon_that_keeps_the_output_open_holds_nothing_up(tmp_path: Path) -> None:
    run(SHELL, "-c", f"sleep 600 & echo $! >{tmp_path}/child", seconds=20)
    child = int((tmp_path / "child").read_text())
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)


def test_output_is_logged_truncated_and_harmless(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(SHELL, "-c", "printf 'one\\n\\033[31mtwo\\n'; head -c 5000000 /dev/zero | tr '\\0' x")
    (message,) = caplog.messages
    assert r"it said: one | \x1b[31mtwo | xxx" in message
    assert len(message) < OUTPUT_LENGTH_MAX + 100
