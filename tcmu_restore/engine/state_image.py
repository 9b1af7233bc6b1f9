"""A state database as it is with its log, in memory, where looking at it changes no file.

SQLite writes even when it only reads: it makes an index of the log, and folds the log into the
database when it closes it. So a state is put together and looked at here first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from .state_wal import Frame, Log

_MAGIC: Final = b"SQLite format 3\0"
_WAL_MODE: Final = b"\2\2"
_NO_WAL_MODE: Final = b"\1\1"
PAGE_SIZES: Final = tuple(1 << power for power in range(9, 16))
"""What a page of SQLite's may have; 64 KiB are written otherwise, and never by us."""

_PAGE_SIZE: Final = slice(16, 18)
_MODE: Final = slice(18, 20)
_PAGES: Final = slice(28, 32)

STEPS_MAX: Final = 50_000_000
"""Steps of SQLite's machine, a second or two: a damaged tree may have no end."""


def compose(main: bytes, log: Log | None, frames: list[Frame]) -> bytes:
    """Return the database *main* with *frames* of *log*, as one that needs no log.

    Raises:
        ValueError: the file is not a state database, or parts of it are missing.
    """
    page_size = _page_size(main)
    if log is not None and log.page_size != page_size:
        raise ValueError("its write-ahead log belongs to another file")
    newest = {frame.page: frame.content for frame in frames}
    pages = frames[-1].database_pages if frames else int.from_bytes(main[_PAGES], "big")
    whole = min(len(main) // page_size, pages)
    if not pages or any(page not in newest for page in range(whole + 1, pages + 1)):
        raise ValueError("it was cut off")
    image = bytearray(main[: whole * page_size])
    image.extend(bytes((pages - whole) * page_size))
    for page, content in newest.items():
        image[(page - 1) * page_size : page * page_size] = content
    image[_MODE] = _NO_WAL_MODE
    return bytes(image)


def _page_size(main: bytes) -> int:
    """Return the size in the header of *main*, if it is one that SQLite takes for a WAL database.

    Otherwise it would not look at the log, and read an older state.
    """
    if not main:
        raise ValueError("it is empty")
    if not main.startswith(_MAGIC):
        raise ValueError("it is not a database")
    page_size = int.from_bytes(main[_PAGE_SIZE], "big")
    if main[_MODE] != _WAL_MODE or page_size not in PAGE_SIZES:
        raise ValueError("its header is damaged")
    return page_size


def compose_anyhow(main: bytes, frames: list[Frame], page_size: int, first: bytes) -> bytes:
    """Return the database *main* with *frames*, whatever is missing, beginning with *first*."""
    newest = {frame.page: frame.content for frame in frames}
    pages = max(-(-len(main) // page_size), *(frame.database_pages for frame in frames), 1)
    image = bytearray(main.ljust(pages * page_size, b"\0"))
    for page, content in newest.items():
        image[(page - 1) * page_size : page * page_size] = content
    image[: len(first)] = first
    image[_PAGE_SIZE] = page_size.to_bytes(2, "big")
    image[_MODE] = _NO_WAL_MODE
    image[_PAGES] = (len(image) // page_size).to_bytes(4, "big")
    return bytes(image)


@contextmanager
def opened(image: bytes) -> Iterator[sqlite3.Connection]:
    """Open *image* for reading; texts come as bytes. What it raises later are sqlite3.Errors."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(image)
        connection.text_factory = bytes
        connection.set_progress_handler(lambda: 1, STEPS_MAX)
        connection.execute("PRAGMA cell_size_check = ON")
        yield connection
