"""Runs the programs that drive storage, with their complaint as the error's reason."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

from .errors import SnapshotCommandError

Run = Callable[[Sequence[str]], str]
"""Runs a command to its end and returns its standard output; raises SnapshotCommandError."""

TIMEOUT_SECONDS: Final = 120.0
"""LVM waits for its own locks; a command that takes longer than this hangs on dead storage."""


_CHATTER: Final = ("WARNING:", "Run `")
_LINES_MAX: Final = 3


def run(words: Sequence[str]) -> str:
    """Run a command and return its standard output.

    Raises:
        SnapshotCommandError: it is not installed, hangs, or ends with another status than 0.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise SnapshotCommandError(words[0], "it is not installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SnapshotCommandError(words[0], str(error).rstrip(".")) from error
    if done.returncode:
        raise SnapshotCommandError(words[0], _complaint(done))
    return done.stdout


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return what was said, as one sentence, without LVM's warnings and advice."""
    lines = [line.strip().rstrip(".") for line in done.stderr.splitlines()]
    said = [line for line in lines if line and not line.startswith(_CHATTER)]
    return "; ".join(said[-_LINES_MAX:]) or f"it ended with status {done.returncode}"
