"""Who owns a lab's files, and how a lab ends when its process is told to."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vagrant import host

_PREFIX = "tcmu-lab-"
_LOCK_NAME = "owner"


@contextmanager
def owned_folder() -> Iterator[Path]:
    """Make the folder of one lab and remove it at the end; first remove those of dead labs.

    The owner holds a lock on a file inside, which the kernel drops when the owner dies: process
    numbers are used again, locks are not.
    """
    _remove_stale_folders()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        with (folder / _LOCK_NAME).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        host.remove_tree(folder)


def _remove_stale_folders() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            with (folder / _LOCK_NAME).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                host.remove_tree(folder)
        except (OSError, ValueError):
            continue  # in use, not complete yet, or not ours


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end this process the way Ctrl-C does, through every `with` and fixture."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
