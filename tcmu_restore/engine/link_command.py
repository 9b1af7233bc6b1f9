"""Runs an admin's command that brings a link up or takes it down.

No shell, no standard input, a process group of its own that is killed when the
time is over. A command may leave a daemon behind (a dialler): the end of the
command itself counts, not the end of its output.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
from asyncio import CancelledError, get_running_loop, shield
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

from ..errors import LinkCommandError
from ..log_line import log_line
from ..text import printable

log = logging.getLogger(__name__)

OUTPUT_LENGTH_MAX: Final = 2000
"""Bytes of what it prints that are logged; the rest is read and dropped."""

SAID_LENGTH_MAX: Final = 200
"""Characters of its last line in the sentence for the admin."""

_CHUNK: Final = 4096


async def run_link_command(
    argv: Sequence[str], timeout_seconds: float, *, volume: str = ""
) -> None:
    """Run *argv* to its end; *volume* is for the log.

    Raises:
        LinkCommandError: it could not be started, failed, or took longer than *timeout_seconds*
            and was killed. Trying again may help.

    Cancelled, it kills the command first.
    """
    stop = os.eventfd(0)
    job = get_running_loop().run_in_executor(None, _execute, argv, timeout_seconds, stop)
    try:
        status, output = await shield(job)
    except CancelledError:
        os.eventfd_write(stop, 1)
        await job
        raise
    finally:
        os.close(stop)
    said = _printable(output)
    sentence = f"the link command {status or 'is done'}{f'; it said: {said}' if said else ''}"
    level = logging.WARNING if status else logging.INFO
    log.log(level, log_line(sentence, volume=volume, operation="link", command=argv[0]))
    if status:
        last = said.rpartition(" | ")[2][:SAID_LENGTH_MAX]
        raise LinkCommandError(argv[0], f"{status} ({last})" if last else status)


def _execute(argv: Sequence[str], timeout_seconds: float, stop: int) -> tuple[str, bytes]:
    """Return what went wrong, or an empty text, and the beginning of the output. Blocks."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        return f"cannot be started: {error.strerror or error}", b""
    assert process.stdout is not None
    with process.stdout as pipe:
        output, is_over = _wait(process, pipe.fileno(), stop, monotonic() + timeout_seconds)
    if not is_over:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"was killed: it had not ended after {timeout_seconds:g} s", output
    status = process.wait()
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}", output
    return f"failed with status {status}" if status else "", output


def _wait(process: subprocess.Popen[bytes], pipe: int, stop: int, end: float) -> tuple[bytes, bool]:
    """Read what *process* prints until it ends; return the output, and False if time is over.

    It also is over when *stop*, an eventfd, is written to.
    """
    output = bytearray()
    exited = os.pidfd_open(process.pid)
    poll = select.poll()
    for fd in (exited, pipe, stop):
        poll.register(fd, select.POLLIN)
    try:
        while True:
            ready = {fd for fd, _ in poll.poll(max(0.0, end - monotonic()) * 1000)}
            if pipe in ready:
                chunk = os.read(pipe, _CHUNK)
                output += chunk[: OUTPUT_LENGTH_MAX - len(output)]
                if not chunk:
                    poll.unregister(pipe)
            if exited in ready:
                return bytes(output), True
            if monotonic() >= end or stop in ready:
                return bytes(output), False
    finally:
        os.close(exited)


def _printable(output: bytes) -> str:
    """Return *output* as one line of printable characters; lines are joined by a bar."""
    lines = output.decode(errors="replace").splitlines()
    return printable(" | ".join(" ".join(line.split()) for line in lines if line.strip()))
