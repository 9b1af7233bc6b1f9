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
    """Return the last thing that was said: LVM's warnings come before its error."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else f"it ended with status {done.returncode}"
