"""Text from elsewhere, made harmless for terminals and logs."""

from __future__ import annotations

from typing import Any


def printable(text: str) -> str:
    r"""Return *text* with all that a terminal or a log might obey written out: ``\x1b``, ``\n``."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def printable_all(document: Any) -> Any:
    """Return a JSON document with every text in it, keys too, made ``printable``."""
    if isinstance(document, str):
        return printable(document)
    if isinstance(document, list):
        return [printable_all(item) for item in document]
    if isinstance(document, dict):
        return {printable(key): printable_all(value) for key, value in document.items()}
    return document
