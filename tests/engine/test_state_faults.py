"""Errors while a state is written: a failed commit leaves nothing behind, later ones work."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.core.overwrite_map import OverwriteMap
from tcmu_restore.engine.state_db import StateDb
from tcmu_restore.engine.state_reading import load
from tcmu_restore.errors import StateWriteError


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class FaultyConnection:
    """A connection whose *number*-th call fails, before it is carried out or after that."""

    def __init__(self, real: sqlite3.Connection, number: int, *, once: bool, after: bool) -> None:
        self._real = real
        self._left = number
        self._once = once
        self._after = after
        self.is_broken = True
        self.faults = 0
        self.is_committed_all_the_same = False

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, *args: Any) -> Any:
        return self._call(self._real.execute, *args)

    def rollback(self) -> None:
        self._call(self._real.rollback)

    def close(self) -> None:
        self._real.close()

    def _call(self, work: Callable[..., Any], *args: Any) -> Any:
        self._left -= 1
        if not self.is_broken or self._left > 0 or (self._once and self._left < 0):
            return work(*args)
        self.faults += 1
        if self._after:
            work(*args)
            self.is_committed_all_the_same |= args == ("COMMIT",)
        raise sqlite3.OperationalError("disk I/O error")


async def is_done(commit: asyncio.Future[None]) -> bool:
    try:
        await commit
    except StateWriteError:
        return False
    return True


async def workload(db: StateDb, faulty: FaultyConnection) -> list[bool]:
    """Make three commits in turn; return which of them are in the state."""
    overwrite_map = OverwriteMap(100)
    overwrite_map.mark_host_written(range(7))
    image = overwrite_map.take_image()
    commits: tuple[Callable[[], asyncio.Future[None]], ...] = (
        lambda: db.commit_intent([3, 4], [1]),
        lambda: db.commit_map(image, {"a": 2}),
        lambda: db.commit_facts({"b": [3]}),
    )
    found = []
    for commit in commits:
        faulty.is_committed_all_the_same = False
        is_reported = await is_done(commit())
        assert (db.last_error is None) == is_reported
        found.append(is_reported or faulty.is_committed_all_the_same)
    return found


def check_state(path: Path, done: list[bool]) -> None:
    stored = load(path).stored
    assert stored.armed_zones == ({3, 4} if done[0] else {1})
    assert list(stored.sets.host_written) == (list(range(7)) if done[1] else [])
    assert stored.facts["a"] == (2 if done[1] else 1)
    assert ("b" in stored.facts) == done[2]


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_a_fault_at_any_call_fails_that_commit_and_nothing_else(
    tmp_path: Path, *, once: bool, after: bool
) -> None:
    """SQLite's loop: the first call fails, then the second, until nothing fails any more."""

    async def fails_at(number: int, path: Path) -> bool:
        db, _ = StateDb.open(path)
        db._connection.execute("PRAGMA synchronous = OFF")
        await db.commit_intent([1], [])
        faulty = FaultyConnection(db._connection, number, once=once, after=after)
        db._connection = faulty  # type: ignore[assignment]
        done = await workload(db, faulty)
        if number % 2:  # it is healed
            faulty.is_broken = False
            await db.commit_facts({"end": number})
            assert db.last_error is None
        await db.close()
        check_state(path, done)
        assert (load(path).stored.facts.get("end") == number) == bool(number % 2)
        return faulty.faults > 0

    for number in count(1):
        path = tmp_path / f"{number}.db"
        StateDb.create(path, {"a": 1})
        if not asyncio.run(fails_at(number, path)):
            break
    assert number > 15


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size* bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_log_that_cannot_grow_fails_commits_until_it_can(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, {"a": 1})

    async def go() -> None:
        db, _ = StateDb.open(path)
        await db.commit_intent([1], [])
        before = (db.transactions, db.bytes_written)
        for size in (0, 3000, 5000, 20_000):
            with file_size_limit(size):
                with pytest.raises(StateWriteError, match="disk I/O error"):
                    await db.commit_facts({"a": "x" * 50_000})
                assert isinstance(db.last_error, StateWriteError)
        assert (db.transactions, db.bytes_written) == before
        await db.commit_facts({"b": 2})
        assert db.last_error is None
        await db.close()

    asyncio.run(go())
    assert load(path).stored.facts == {"a": 1, "b": 2}


def test_a_database_that_cannot_grow_fails_no_commit(tmp_path: Path) -> None:
    """The commits are durable in the log; folding it into the database is tried again later."""
    path = tmp_path / "v.db"
    StateDb.create(path, {"a": 1})

    async def go() -> None:
        db, _ = StateDb.open(path)
        db._connection.execute("PRAGMA wal_autocheckpoint = 3")
        await db.commit_facts({"more": "x" * 3000})
        await db.commit_intent(range(300), [])
        size = path.stat().st_size
        await db.commit_facts({"more": "x" * 9000})
        with file_size_limit(size + 1024):
            await db.close()

    asyncio.run(go())
    stored = load(path).stored
    assert stored.facts == {"a": 1, "more": "x" * 9000}
    assert stored.armed_zones == frozenset(range(300))


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_file_system_is_reported_and_got_over(small_file_system: Path) -> None:
    path = small_file_system / "v.db"
    filler = small_file_system / "filler"
    StateDb.create(path, {"a": 1})

    def fill() -> None:
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(1 << 20))

    async def go() -> None:
        fill()
        db, stored = StateDb.open(path)  # nothing has to be written for that
        assert stored.facts == {"a": 1}
        for _ in range(3):
            with pytest.raises(StateWriteError, match="full"):
                await db.commit_intent([7], [])
            assert "full" in str(db.last_error)
        filler.unlink()
        await db.commit_intent([8], [])
        assert db.last_error is None
        fill()
        with pytest.raises(StateWriteError, match="full"):
            await db.commit_facts({"long": "x" * 20_000})
        await db.close()

    asyncio.run(go())
    with pytest.raises(StateWriteError, match="No space"):
        StateDb.create(small_file_system / "w.db", {})
    filler.unlink()
    stored = load(path).stored
    assert stored.facts == {"a": 1}
    assert stored.armed_zones == {8}
    assert sorted(file.name for file in small_file_system.iterdir()) == ["v.db", "v.db-mark"]


def test_a_limit_on_pages_fails_the_commit_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, {})

    async def go() -> None:
        db, _ = StateDb.open(path)
        db._connection.execute("PRAGMA max_page_count = 1")
        first = db.commit_facts({"short": 0})  # alone in its transaction
        both = [db.commit_facts({"long": "x" * 100_000}), db.commit_intent([5], [])]
        await first
        results = await asyncio.gather(*both, return_exceptions=True)
        assert [type(result) for result in results] == [StateWriteError] * 2
        assert not db._connection.in_transaction
        db._connection.execute("PRAGMA max_page_count = 100000")
        await db.commit_facts({"short": 1})
        await db.close()

    asyncio.run(go())
    stored = load(path).stored
    assert (stored.facts, stored.armed_zones) == ({"short": 1}, frozenset())


def test_a_mistake_of_ours_is_not_taken_for_an_error_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, {})

    async def go() -> None:
        db, _ = StateDb.open(path)
        with pytest.raises(TypeError):
            await db.commit_facts({"a": 1, "b": object()})
        assert not db._connection.in_transaction
        assert db.last_error is None
        await db.commit_facts({"c": 1})
        await db.close()

    asyncio.run(go())
    assert load(path).stored.facts == {"c": 1}
