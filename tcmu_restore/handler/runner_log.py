"""Python's logging into tcmu-runner's log: one place for an admin to look."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable
from typing import Final

from ..text import printable

_SYSLOG: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG: Final = 7
_PLAIN: Final = logging.Formatter()

LINE_BYTES_MAX: Final = 200
"""Below libtcmu's LOG_MSG_LEN by its prefix (function and line) and a margin."""


class RunnerLog(logging.Handler):
    """Passes each record to *write(level, text)*, which must be callable from any thread."""

    def __init__(self, write: Callable[[int, str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a traceback goes line by line.

        A line break in the message itself, which may be a peer's text, begins no line of the log.
        """
        try:
            lines = [record.getMessage()]
            if record.exc_info:
                lines += _PLAIN.formatException(record.exc_info).split("\n")
        except Exception:  # noqa: BLE001  # a bad log call must not hurt its caller
            self.handleError(record)
            return
        level = next((level for floor, level in _SYSLOG if record.levelno >= floor), _DEBUG)
        for line in lines:
            for piece in _pieces(printable(line)):
                self._write(level, piece)


def _pieces(line: str) -> list[str]:
    """Cut what tcmu-runner would cut, newline and all: it keeps 255 bytes with its own prefix."""
    width = LINE_BYTES_MAX if line.isascii() else LINE_BYTES_MAX // 4
    return textwrap.wrap(line, width, subsequent_indent="  ", drop_whitespace=True) or [""]


def install(write: Callable[[int, str], None]) -> RunnerLog:
    """Send the package's log records, and others' warnings, to *write*."""
    handler = RunnerLog(write)
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("tcmu_restore").setLevel(logging.INFO)
    return handler
