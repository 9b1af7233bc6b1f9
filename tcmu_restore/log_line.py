"""The form of a log line: fields for programs, then a sentence for people.

    volume=vm01 operation=merge offset=1048576 length=4096 The extent is damaged; ...

Names of devices, errors of a peer and the like are somebody else's words: control characters in
them are escaped, so that nobody can make a line of his own. The sentence is the rest of the line
behind the fields; a value that is more than one plain word stands in quotation marks.
"""

from __future__ import annotations

import re
from typing import Final

from .text import printable

_PLAIN: Final = re.compile(r"[^\s\"=\\]+")


def log_line(sentence: str, *, volume: str = "", operation: str = "", **fields: object) -> str:
    """Return the line; fields that are empty or None are left out.

    Args:
        sentence: what happened, and what is done now.
        volume: whose name; nothing if it is about no volume or all of them.
        operation: the verb or job, in one word: ``merge``, ``open``, ``declare-lost``.
        fields: ``offset`` and ``length`` in bytes for an extent, and whatever else is of use.
    """
    named = {"volume": volume, "operation": operation} | fields
    words = [
        f"{name}={_quoted(str(value))}" for name, value in named.items() if value not in ("", None)
    ]
    return " ".join([*words, printable(sentence)])


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.isprintable():
        return value
    return '"' + printable(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'
