"""One SQLite database a volume: map, intent log, identity, attached snapshot, counters.

WAL with ``synchronous=FULL``: a commit is durable when its transaction ends. One
thread of its own writes; what is asked for while a transaction runs goes into
the next one, together and in order (MAP-3 and INT-1 rest on that order).

The file lives on the host's own file system, not on the primary, so that it
outlives it. ``user_version`` is the schema's version; a newer one is refused.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from asyncio import Future, get_running_loop
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final

from pyroaring import BitMap64

from ..core.overwrite_map import CHUNK_REGIONS, MapImage, RegionSets
from ..errors import RestoreError, StateCorruptError, StateNewerError, StateWriteError

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x54435552  # "TCUR", so that file(1) and we know it

_SCHEMA: Final = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE map_chunk (
  chunk INTEGER PRIMARY KEY, checksum INTEGER NOT NULL,
  current BLOB NOT NULL, host_written BLOB NOT NULL, stale BLOB NOT NULL,
  in_doubt BLOB NOT NULL, outdated BLOB NOT NULL
) STRICT;
CREATE TABLE armed_zone (zone INTEGER PRIMARY KEY) STRICT;
"""

_KINDS: Final = tuple(item.name for item in fields(RegionSets))

Work = Callable[[sqlite3.Connection], None]


@dataclass(slots=True)
class StoredState:
    """What a state file holds when it is opened."""

    facts: dict[str, Any]
    sets: RegionSets
    armed_zones: frozenset[int]


class StateDb:
    """An open state file. All methods but those named static are for the loop's thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"state-{path.stem}")
        self._waiting: list[tuple[Work, Future[None]]] = []
        self._is_writing = False
        self.transactions = 0
        self.bytes_written = 0

    @staticmethod
    def create(path: Path, facts: dict[str, Any]) -> None:
        """Make a new state file: everything lost, nothing armed. Raises StateWriteError."""
        try:
            path.touch(mode=0o600, exist_ok=False)
            connection = _connect(path)
            with connection:
                connection.executescript(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                _put_facts(connection, facts)
            connection.close()
        except (OSError, sqlite3.Error) as error:
            raise StateWriteError(str(path), str(error)) from error

    @classmethod
    def open(cls, path: Path) -> tuple[StateDb, StoredState]:
        """Open a state file and read all of it.

        Raises:
            StateNewerError: a newer version wrote it; nothing was touched.
            StateCorruptError: it is missing, or not what this program wrote.
        """
        if not path.is_file():
            raise StateCorruptError(str(path), "the file is missing")
        try:
            _check_version(path)
            connection = _connect(path)
            stored = _read_all(connection, path)
        except (sqlite3.Error, ValueError, OSError) as error:
            raise StateCorruptError(str(path), str(error)) from error
        return cls(path, connection), stored

    @staticmethod
    def peek(path: Path) -> dict[str, Any]:
        """Return the facts of a state file that may not be open, changing nothing.

        Raises StateNewerError and StateCorruptError as ``open`` does.
        """
        if not path.is_file():
            raise StateCorruptError(str(path), "the file is missing")
        try:
            _check_version(path)
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            try:
                return _facts(connection)
            finally:
                connection.close()
        except (sqlite3.Error, ValueError) as error:
            raise StateCorruptError(str(path), str(error)) from error

    def commit_map(self, image: MapImage, facts: dict[str, Any]) -> Future[None]:
        """Make *image* durable, and *facts* with it. Fails with StateWriteError."""
        return self._submit(partial(self._write_image, image, facts))

    def commit_intent(self, armed: Iterable[int], disarmed: Iterable[int]) -> Future[None]:
        """Make the arming of some zones and the disarming of others durable."""
        return self._submit(partial(_write_zones, tuple(armed), tuple(disarmed)))

    def commit_facts(self, facts: dict[str, Any]) -> Future[None]:
        """Make some facts durable."""
        return self._submit(lambda connection: _put_facts(connection, facts))

    async def close(self) -> None:
        """Write what is waiting, fold the WAL into the file and close it."""
        await self._submit(lambda _: None)
        await get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    # --- the writing thread -------------------------------------------------------------

    def _submit(self, work: Work) -> Future[None]:
        future: Future[None] = get_running_loop().create_future()
        self._waiting.append((work, future))
        if not self._is_writing:
            self._write_next()
        return future

    def _write_next(self) -> None:
        self._is_writing = True
        batch, self._waiting = self._waiting, []
        loop = get_running_loop()
        ended = loop.run_in_executor(self._thread, self._transaction, [work for work, _ in batch])
        ended.add_done_callback(partial(self._written, [future for _, future in batch]))

    def _written(self, futures: list[Future[None]], ended: Future[RestoreError | None]) -> None:
        error: BaseException | None = ended.exception() or ended.result()
        if self._waiting:
            self._write_next()
        else:
            self._is_writing = False
        for future in futures:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _transaction(self, batch: list[Work]) -> RestoreError | None:
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                for work in batch:
                    work(self._connection)
        except (sqlite3.Error, OSError) as error:
            return StateWriteError(str(self.path), str(error))
        self.transactions += 1
        return None

    def _write_image(
        self, image: MapImage, facts: dict[str, Any], connection: sqlite3.Connection
    ) -> None:
        for index, sets in image.chunks.items():
            blobs = [getattr(sets, kind).serialize() for kind in _KINDS]
            self.bytes_written += sum(map(len, blobs))
            connection.execute(
                "INSERT OR REPLACE INTO map_chunk VALUES (?, ?, ?, ?, ?, ?, ?)",
                (index, _checksum(index, blobs), *blobs),
            )
        _put_facts(connection, facts)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _check_version(path: Path) -> None:
    """Read the version without changing a byte of the file."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
    finally:
        connection.close()
    if application != APPLICATION_ID:
        raise StateCorruptError(str(path), "it is not a tcmu-restore state file")
    if version > SCHEMA_VERSION:
        raise StateNewerError(str(path), version, SCHEMA_VERSION)


def _put_facts(connection: sqlite3.Connection, facts: dict[str, Any]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO fact VALUES (?, ?)",
        [(name, json.dumps(value)) for name, value in facts.items()],
    )


def _write_zones(
    armed: tuple[int, ...], disarmed: tuple[int, ...], connection: sqlite3.Connection
) -> None:
    connection.executemany("INSERT OR IGNORE INTO armed_zone VALUES (?)", [(z,) for z in armed])
    connection.executemany("DELETE FROM armed_zone WHERE zone = ?", [(z,) for z in disarmed])


def _checksum(index: int, blobs: list[bytes]) -> int:
    checksum = zlib.crc32(index.to_bytes(8, "little"))
    for blob in blobs:
        checksum = zlib.crc32(blob, zlib.crc32(len(blob).to_bytes(8, "little"), checksum))
    return checksum


def _facts(connection: sqlite3.Connection) -> dict[str, Any]:
    return {n: json.loads(v) for n, v in connection.execute("SELECT name, value FROM fact")}


def _read_all(connection: sqlite3.Connection, path: Path) -> StoredState:
    facts = _facts(connection)
    sets = RegionSets.empty()
    for index, checksum, *blobs in connection.execute("SELECT * FROM map_chunk ORDER BY chunk"):
        if checksum != _checksum(index, blobs):
            raise StateCorruptError(str(path), f"the checksum of map chunk {index} is wrong")
        window = BitMap64(range(index * CHUNK_REGIONS, (index + 1) * CHUNK_REGIONS))
        for kind, blob in zip(_KINDS, blobs, strict=True):
            part = BitMap64.deserialize(blob)
            if not part.issubset(window):
                raise StateCorruptError(str(path), f"map chunk {index} holds foreign regions")
            getattr(sets, kind).update(part)
    problem = sets.problem()
    if problem is not None:
        raise StateCorruptError(str(path), problem)
    zones = frozenset(zone for (zone,) in connection.execute("SELECT zone FROM armed_zone"))
    return StoredState(facts, sets, zones)
