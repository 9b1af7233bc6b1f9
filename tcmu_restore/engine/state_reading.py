"""Reads a state and refuses what does not add up. Changes no file.

Looked at are: the log's chain of checksums, the header, the structure of the tables, the checksum
of each row, the sum of them all, and the mark. What cannot be found out:

* Without a mark (deleted, or a power cut kept it from the disk): damage in the last committed
  transaction while it stands in the log, and the log's end having been cut off; both look like a
  crash. A flip that clears the commit mark of the last transaction but one looks so too.
* An old copy of all files, the mark included, that was put back.
* Damage to a page in memory after the state was read.
* Bits that nothing depends on, such as unused space; they are passed over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.geometry import Geometry
from ..errors import StateCorruptError, StateNewerError
from .state_files import NOTE, StateFiles, read_files
from .state_image import compose, opened
from .state_rows import collect_rows, decode_rows, one_line
from .state_schema import APPLICATION_ID, SCHEMA_VERSION, StoredState
from .state_wal import Log, parse_log


@dataclass(frozen=True, slots=True)
class Loaded:
    """A state that was read and is whole."""

    stored: StoredState
    version: int
    commits: int
    page_size: int
    log: Log | None


def geometry_of(facts: Mapping[str, Any]) -> Geometry:
    """Return the geometry that *facts* record. Raises KeyError, TypeError or AssertionError."""
    return Geometry(facts["size"], facts["block_size"], facts["region_size"], facts["zone_size"])


def load(path: Path) -> Loaded:
    """Read the state *path*, whatever its version, and check all of it.

    Raises:
        StateNewerError: a newer version wrote it.
        StateCorruptError: it is missing, cannot be read, or is not what this program wrote.
    """
    if not path.is_file():
        raise StateCorruptError(str(path), "the file is missing")
    try:
        files = read_files(path)
    except OSError as error:
        raise StateCorruptError(str(path), str(error)) from error
    return check(files)


def check(files: StateFiles) -> Loaded:
    """Return the state in *files*. Raises StateNewerError, StateCorruptError as ``load`` does."""
    path = str(files.path)
    try:
        return _checked(files)
    except UnicodeDecodeError as error:
        raise StateCorruptError(path, "a text in it is damaged") from error
    except (sqlite3.Error, ValueError) as error:
        raise StateCorruptError(path, one_line(error)) from error


def _checked(files: StateFiles) -> Loaded:
    if files.main.startswith(NOTE):
        raise ValueError("its rebuild was interrupted and is to be run again")
    log = parse_log(files.wal)
    if log is not None and log.durable_count > log.intact_count:
        raise ValueError(f"its write-ahead log is damaged after frame {log.intact_count}")
    image = compose(files.main, log, log.frames[: log.intact_count] if log else [])
    with opened(image) as connection:
        version = _version(connection)
        if version > SCHEMA_VERSION:
            raise StateNewerError(str(files.path), version, SCHEMA_VERSION)
        _check_structure(connection)
        rows = collect_rows(connection, version, _refuse)
    if files.mark is not None and rows.commits < files.mark:
        raise ValueError(
            f"it holds commit {rows.commits}, but commit {files.mark} was durable;"
            " it is an old copy, or the newest commits have vanished"
        )
    page_size = int.from_bytes(files.main[16:18], "big")
    return Loaded(decode_rows(rows, _refuse), version, rows.commits, page_size, log)


def _refuse(reason: str) -> None:
    raise ValueError(reason)


def _version(connection: sqlite3.Connection) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise ValueError("it is not a tcmu-restore state file")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < 1:
        raise ValueError(f"there is no schema version {version}")
    return int(version)


def _check_structure(connection: sqlite3.Connection) -> None:
    for (found,) in connection.execute("PRAGMA integrity_check(1)"):
        if found != b"ok":
            last = found.decode(errors="replace").splitlines()[-1]
            raise ValueError(f"its tables are broken ({last})")
