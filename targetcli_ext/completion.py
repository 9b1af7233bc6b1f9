"""What the Tab key offers. A single completion ends with a space, as configshell wants it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Final

URL_SCHEME: Final = "iscsi://"
BOOLEANS: Final = ("true", "false")


def words(text: str, choices: Iterable[str]) -> list[str]:
    """Return the choices that start with *text*."""
    found = [choice for choice in choices if choice.startswith(text)]
    return [f"{found[0]} "] if len(found) == 1 else found


def urls(text: str) -> list[str]:
    """Return the scheme while it is being typed; there is no list of targets to offer."""
    return [URL_SCHEME] if text and text != URL_SCHEME and URL_SCHEME.startswith(text) else []


def disks(ui: ModuleType, text: str) -> list[str]:
    """Return the block devices and files below the path *text*."""
    return _paths(ui, text, lambda mode: stat.S_ISBLK(mode) or stat.S_ISREG(mode))


def files(ui: ModuleType, text: str) -> list[str]:
    """Return the files below the path *text*."""
    return _paths(ui, text, stat.S_ISREG)


def _paths(ui: ModuleType, text: str, wanted: Callable[[int], bool]) -> list[str]:
    if not text.startswith("/"):
        return []
    found: list[str] = ui.complete_path(text, wanted)
    if len(found) == 1 and not found[0].endswith("/"):
        return [f"{found[0]} "]
    return found
