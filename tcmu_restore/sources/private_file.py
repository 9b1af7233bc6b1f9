"""Reads small files that only their owner may read: definitions and credentials."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from ..errors import BadDefinitionError


def read_private(path: Path, length_max: int) -> bytes:
    """Return the content of *path*, checked and read through one descriptor, so that nobody can
    swap the file in between.

    Raises:
        OSError: it cannot be read.
        BadDefinitionError: it is no regular file, is longer than *length_max* bytes, belongs to
            neither root nor this process's user, or others may read or write it.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadDefinitionError(str(path), "it is not a regular file")
        if status.st_uid not in (0, os.geteuid()):
            raise BadDefinitionError(str(path), f"it belongs to user {status.st_uid}, not to root")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise BadDefinitionError(str(path), f"its mode is {mode:04o}; make it 0600")
        content = file.read(length_max + 1)
    if len(content) > length_max:
        raise BadDefinitionError(str(path), f"it is longer than {length_max} bytes")
    return content


def parse_toml(content: bytes) -> dict[str, Any]:
    """Return a TOML document in UTF-8. Raises ValueError, also for one that is nested too deep."""
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
