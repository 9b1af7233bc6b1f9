"""One SQLite database a volume: map, intent log, identity, attached snapshot, counters.

WAL with ``synchronous=FULL``: a commit is durable when its transaction ends. One
thread of its own writes; what is asked for while a transaction runs goes into
the next one, together and in order (MAP-3 and INT-1 rest on that order).

The file lives on the host's own file system, not on the primary, so that it
outlives it. It is locked while it is open. Every byte that matters is checked
when it is opened: ``state_reading`` says how, and what cannot be found out. A
damaged state is refused and left as it is; ``state_rebuild`` is the way out.

A transaction that fails is rolled back, and the next one is tried like any
other: a full file system costs the commits made while it was full.
"""

from __future__ import annotations

import sqlite3
from asyncio import Future, get_running_loop
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..core.region_sets import MapImage, RegionSets
from ..errors import RestoreError, StateCorruptError, StateWriteError
from .state_files import Mark, place_first
from .state_reading import Loaded, load
from .state_schema import SCHEMA_VERSION, StateWriter, StoredState, encode_state, migrate
from .state_wal import LogMeter

__all__ = ["StateDb", "StoredState"]

Work = Callable[[StateWriter], None]


class StateDb:
    """An open state file. All methods but those named static are for the loop's thread.

    ``transactions`` and ``bytes_written`` count what was made durable since it was opened: all
    bytes of the write-ahead log and of the mark, not their later way into the database file.
    ``last_error`` is why the last transaction failed; None if it did not. A transaction that had
    nothing to change is none.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, loaded: Loaded) -> None:
        self.path = path
        self.transactions = 0
        self.bytes_written = 0
        self.last_error: RestoreError | None = None
        self._connection = connection
        self._mark = Mark(path)
        self._meter = LogMeter(path, loaded.log, loaded.page_size)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"state-{path.stem}")
        self._waiting: list[tuple[Work, Future[None]]] = []
        self._is_writing = False

    @staticmethod
    def create(path: Path, facts: dict[str, Any]) -> None:
        """Make a new state file, whole or not at all: everything lost, nothing armed.

        Raises StateWriteError: it is there already, or cannot be written; nothing was changed.
        """
        try:
            stored = StoredState(facts, RegionSets.empty(), frozenset())
            place_first(path, encode_state(stored))
        except (OSError, sqlite3.Error) as error:
            raise StateWriteError(str(path), str(error)) from error

    @classmethod
    def open(cls, path: Path) -> tuple[StateDb, StoredState]:
        """Open a state file and read all of it.

        Raises:
            StateNewerError: a newer version wrote it; nothing was touched.
            StateCorruptError: it is missing, or not what this program wrote; nothing was touched.
            StateWriteError: it is sound, but somebody has it open or it cannot be written.
        """
        loaded = load(path)
        try:
            connection = _connect(path, loaded)
        except sqlite3.Error as error:
            raise StateWriteError(str(path), str(error)) from error
        return cls(path, connection, loaded), loaded.stored

    @staticmethod
    def peek(path: Path) -> dict[str, Any]:
        """Return the facts of a state file that is not open, changing nothing.

        Raises StateNewerError and StateCorruptError as ``open`` does.
        """
        return load(path).stored.facts

    def commit_map(self, image: MapImage, facts: dict[str, Any]) -> Future[None]:
        """Make *image* durable, and *facts* with it. Fails with StateWriteError."""

        def work(writer: StateWriter) -> None:
            writer.put_image(image)
            writer.put_facts(facts)

        return self._submit(work)

    def commit_intent(self, armed: Iterable[int], disarmed: Iterable[int]) -> Future[None]:
        """Make the arming of some zones and the disarming of others durable."""
        to_arm, to_disarm = tuple(armed), tuple(disarmed)

        def work(writer: StateWriter) -> None:
            writer.arm(to_arm)
            writer.disarm(to_disarm)

        return self._submit(work)

    def commit_facts(self, facts: dict[str, Any]) -> Future[None]:
        """Make some facts durable; any names."""
        return self._submit(lambda writer: writer.put_facts(facts))

    async def close(self) -> None:
        """Write what is waiting, fold the log into the file and close it. Never raises."""
        with suppress(RestoreError):
            await self._submit(lambda _: None)
        await get_running_loop().run_in_executor(self._thread, self._close)
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

    def _written(self, futures: list[Future[None]], ended: Future[None]) -> None:
        error = ended.exception()
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

    def _transaction(self, batch: list[Work]) -> None:
        try:
            self._roll_back()  # if an earlier one could not be
            self._connection.execute("BEGIN IMMEDIATE")
            writer = StateWriter(self._connection)
            for work in batch:
                work(writer)
            commits = writer.seal()
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.last_error = StateWriteError(str(self.path), str(error))
            raise self.last_error from error
        finally:
            with suppress(sqlite3.Error):
                self._roll_back()
        if commits is not None:
            self._count(commits)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()

    def _count(self, commits: int) -> None:
        """The transaction is durable; nothing may fail any more."""
        self.last_error = None
        self.transactions += 1
        self.bytes_written += self._mark.write(commits)
        with suppress(OSError):
            self.bytes_written += self._meter.transaction_length()

    def _close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()
        self._mark.close()
        self._meter.close()


def _connect(path: Path, loaded: Loaded) -> sqlite3.Connection:
    """Open the database for writing, in this version. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if loaded.version < SCHEMA_VERSION:
            migrate(connection, loaded.stored)
            return connection
        found = connection.execute("SELECT commits FROM seal").fetchone()
    except BaseException:
        connection.close()
        raise
    if found != (loaded.commits,):
        connection.close()
        raise StateCorruptError(str(path), "SQLite reads another state than was checked")
    return connection
