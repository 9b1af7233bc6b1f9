"""Saves from a damaged state what can still be trusted: rows with the right checksums.

Whole pages of a damaged log are used, a broken first page is replaced, and tables are read from
both ends. If all rows are there after that, by the seal's sum and the mark, nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..core.region_sets import RegionSets
from ..errors import StateCorruptError, StateNewerError
from .state_files import StateFiles
from .state_image import PAGE_SIZES, compose_anyhow, opened
from .state_reading import check
from .state_rows import DAMAGE, Rows, collect_rows, decode_rows, one_line
from .state_schema import PAGE_SIZE, SCHEMA_VERSION, StoredState, encode_state
from .state_wal import Log, parse_log

NOTHING: Final = StoredState({}, RegionSets.empty(), frozenset())
_HEADER_LENGTH: Final = 100
_VERSION: Final = slice(60, 64)


@dataclass(frozen=True, slots=True)
class Salvage:
    """What was saved. The sets may contradict each other if parts are unreadable."""

    stored: StoredState
    unreadable: tuple[str, ...]
    """What cannot be read or is missing, in words. Empty: nothing is lost."""


def salvage(files: StateFiles) -> Salvage:
    """Return what *files* still say.

    Raises:
        StateNewerError: a newer version wrote them.
    """
    empty = encode_state(NOTHING)
    try:
        return Salvage(check(files).stored, ())
    except StateNewerError:
        saved = _salvage(files, (empty[:_HEADER_LENGTH],))
        if saved.unreadable:
            raise
        return saved  # only the number is wrong
    except StateCorruptError:
        return _salvage(files, (empty[:_HEADER_LENGTH], empty[:PAGE_SIZE]))


def _salvage(files: StateFiles, beginnings: tuple[bytes, ...]) -> Salvage:
    """Save what there is, with the first of *beginnings* that loses nothing, or the best one."""
    if not files.main:
        return Salvage(NOTHING, ("the whole file",))
    log, log_notes = _log(files)
    page_size = _page_size(files, log)
    frames = [frame for frame in log.frames[: log.durable_count] if frame.is_chained] if log else []
    version = _version(compose_anyhow(files.main, frames, page_size, b""))
    best, notes = Rows(), ["the whole file"]
    for first in beginnings:
        rows, found = _rows(compose_anyhow(files.main, frames, page_size, first), version)
        if rows.count > best.count or not found:
            best, notes = rows, found
        if not notes:
            break
    if files.mark is not None and best.commits < files.mark:
        notes.append(f"commits {best.commits + 1} to {files.mark}")
    if files.mark is None or notes:
        notes += log_notes
    stored = decode_rows(best, notes.append)
    return Salvage(stored, tuple(dict.fromkeys(notes)))


def _log(files: StateFiles) -> tuple[Log | None, list[str]]:
    try:
        return parse_log(files.wal), []
    except ValueError:
        return None, ["the write-ahead log"]


def _page_size(files: StateFiles, log: Log | None) -> int:
    if log is not None:
        return log.page_size
    stored = int.from_bytes(files.main[16:18], "big")
    return stored if stored in PAGE_SIZES else PAGE_SIZE


def _version(image: bytes) -> int:
    stored = int.from_bytes(image[_VERSION], "big")
    return stored if stored == 1 else SCHEMA_VERSION


def _rows(image: bytes, version: int) -> tuple[Rows, list[str]]:
    """Return the rows of *image* and what is wrong with them."""
    notes = ["rows without checksums"] if version == 1 else []
    try:
        with opened(image) as connection:
            return collect_rows(connection, version, notes.append), notes
    except DAMAGE as error:
        return Rows(), [*notes, one_line(error)]
