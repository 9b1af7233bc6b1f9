"""SQLite's write-ahead log as bytes: what it adds to the database, and whether it is damaged.

SQLite takes a frame with a wrong checksum for the end of its log and forgets what follows. That is
right after a crash and wrong after a flipped bit, which would take back committed transactions
unseen. So the log is looked at here before SQLite gets to see it.

With ``synchronous=FULL`` a transaction is written only when the one before it is on disk; a crash
leaves one unfinished transaction at the most. A frame that continues the chain of checksums behind
the *commit frame* of a transaction was therefore written when that transaction was durable: if
something in or before that transaction is bad all the same, the log is damaged. What older
unfinished transactions left in the file has no such frame: nothing follows their commit frames.

The log alone does not tell damage in its last transaction from a crash, nor that transactions were
cut off at its end. The mark (``state_files``) and the number of commits (``state_schema``) do.

Format: https://www.sqlite.org/fileformat2.html, section 4. Pure but for ``LogMeter``.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .state_files import WAL, beside

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC: Final = 0x377F0682  # the lowest bit says that checksums are made of big-endian words
_VERSION: Final = 3007000
_SALTS: Final = slice(16, 24)
_FRAME_SALTS: Final = slice(8, 16)
_WORD_MAX: Final = 0xFFFFFFFF

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """One page as a transaction left it."""

    page: int
    """Counted from 1, as SQLite does."""

    database_pages: int
    """Pages of the database after the commit that this frame ends; 0 if it ends none."""

    content: memoryview
    is_chained: bool
    """Whether it was written right behind the frame before it, and is whole."""


@dataclass(frozen=True, slots=True)
class Log:
    """A log whose header is whole."""

    page_size: int
    frames: list[Frame]

    @property
    def intact_count(self) -> int:
        """How many frames SQLite accepts, up to the last commit among them."""
        found = 0
        for index, frame in enumerate(self.frames):
            if not frame.is_chained:
                break
            if frame.database_pages:
                found = index + 1
        return found

    @property
    def durable_count(self) -> int:
        """How many frames belong to transactions that were durable for certain, or are intact.

        More than ``intact_count``: the log is damaged.
        """
        found = self.intact_count
        is_followed = False  # whether an unbroken chain leads here from behind a commit frame
        for index in range(found + 1, len(self.frames)):
            frame, before = self.frames[index], self.frames[index - 1]
            is_followed = frame.is_chained and (is_followed or before.database_pages > 0)
            if is_followed and before.database_pages:
                found = index
            if is_followed and frame.database_pages:
                found = index + 1
        return found

    def end_of(self, frame_count: int) -> int:
        """Return where the frame after the first *frame_count* begins, in bytes."""
        return _HEADER.size + frame_count * (_FRAME.size + self.page_size)


def parse_log(content: bytes) -> Log | None:
    """Return the log, or None if it is empty.

    Raises:
        ValueError: its header is damaged. A crash cannot do that: the header is made durable before
            the first frame is written.
    """
    if len(content) < _HEADER.size or not any(content):
        return None
    magic, version, page_size, _, _, _, *stored = _HEADER.unpack_from(content)
    order = ">" if magic & 1 else "<"
    sums = _add(content[:24], (0, 0), order)
    if magic & ~1 != _MAGIC or version != _VERSION or list(sums) != stored:
        raise ValueError("the header of its write-ahead log is damaged")
    return Log(page_size, _frames(memoryview(content), page_size, sums, order))


def _frames(content: memoryview, page_size: int, seed: Sums, order: str) -> list[Frame]:
    frames = []
    seeds = [seed]  # what the frame before says of itself, and what it really has
    length = _FRAME.size + page_size
    for index in range((len(content) - _HEADER.size) // length):
        frame = content[_HEADER.size + index * length :][:length]
        header, body = frame[: _FRAME.size], frame[_FRAME.size :]
        page, database_pages, _, _, *words = _FRAME.unpack(header)
        stored = (words[0], words[1])
        found = []
        if header[_FRAME_SALTS] == content[_SALTS]:
            found = [_add(body, _add(header[:8], seed, order), order) for seed in seeds]
        frames.append(Frame(page, database_pages, body, stored in found))
        seeds = [stored] if stored in found else [stored, *found]
    return frames


def _add(content: bytes | memoryview, sums: Sums, order: str) -> Sums:
    """Continue *sums* over *content*, a multiple of eight bytes."""
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(content) // 4}I", content))
    for word in words:
        first = (first + word + second) & _WORD_MAX
        second = (second + next(words) + first) & _WORD_MAX
    return first, second


class LogMeter:
    """Counts the bytes that transactions add to a log. For one thread at a time.

    The log's file does not grow when it is written again from its beginning, so what is counted is
    frames, by their headers: two or three small reads a transaction.
    """

    def __init__(self, path: Path, log: Log | None, page_size: int) -> None:
        self._path = beside(path, WAL)
        self._frame_length = _FRAME.size + page_size
        self._end = log.end_of(log.intact_count) if log else 0
        self._salts = b""
        self._descriptor = -1
        if log is not None:
            self._salts = self._read(0, _HEADER.size)[_SALTS]

    def transaction_length(self) -> int:
        """Return the bytes of the transaction written since the last call. May raise OSError."""
        start = self._end
        salts = self._read(0, _HEADER.size)[_SALTS]
        if salts != self._salts:  # the log was begun anew
            self._salts, start, self._end = salts, 0, _HEADER.size
        while True:
            header = self._read(self._end, _FRAME.size)
            if len(header) < _FRAME.size or header[_FRAME_SALTS] != salts:
                break
            self._end += self._frame_length
            if any(header[4:8]):
                break
        return self._end - start

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self, offset: int, length: int) -> bytes:
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDONLY)
        return os.pread(self._descriptor, length, offset)
