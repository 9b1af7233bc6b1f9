"""Small files that survive a power cut: written whole or not at all, for their owner only.

Blocking.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Put a file of *text*, mode 0600, at *path*; durable on return.

    Raises OSError: what was there is as it was, unless only its new name could not be made durable.
    """
    new = path.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(new, flags, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)  # also one that was left behind with another mode
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Make the names in the folder of *path* durable. Raises OSError."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
