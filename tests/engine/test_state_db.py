"""The state file: what is committed is there again, what is damaged is refused."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from pyroaring import BitMap64

from tcmu_restore.core.overwrite_map import CHUNK_REGIONS, OverwriteMap
from tcmu_restore.engine.state_db import StateDb
from tcmu_restore.errors import StateCorruptError, StateNewerError, StateWriteError


def written(path: Path) -> None:
    """A state file with two chunks, one armed zone and one fact."""
    StateDb.create(path, {"size": 1})

    async def go() -> None:
        db, _ = StateDb.open(path)
        overwrite_map = OverwriteMap(3 * CHUNK_REGIONS)
        overwrite_map.mark_fetched(BitMap64([1, CHUNK_REGIONS + 7]))
        overwrite_map.mark_host_written(range(4, 9))
        asked = [
            db.commit_map(overwrite_map.take_image(), {"counters": {"flushes": 3}}),
            db.commit_intent([5, 6], []),
            db.commit_intent([], [6]),
        ]
        await asyncio.gather(*asked)
        assert db.transactions == 2  # the first alone, the others together
        await db.close()

    asyncio.run(go())


def test_everything_committed_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    written(path)
    assert path.stat().st_mode & 0o777 == 0o600

    async def go() -> None:
        db, stored = StateDb.open(path)
        assert list(stored.sets.current) == [1, 4, 5, 6, 7, 8, CHUNK_REGIONS + 7]
        assert list(stored.sets.host_written) == [4, 5, 6, 7, 8]
        assert stored.armed_zones == {5}
        assert stored.facts == {"size": 1, "counters": {"flushes": 3}}
        await db.close()

    asyncio.run(go())


def refuse(path: Path, error: type[Exception], match: str) -> None:
    before = path.read_bytes() if path.exists() else b""
    with pytest.raises(error, match=match):
        StateDb.open(path)
    assert (path.read_bytes() if path.exists() else b"") == before


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    written(path)
    change(path, "PRAGMA user_version = 2")
    refuse(path, StateNewerError, "schema version 2")


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("UPDATE map_chunk SET current = host_written", "checksum"),
        ("UPDATE map_chunk SET chunk = 2 WHERE chunk = 1", "checksum"),
        ("DROP TABLE armed_zone", "armed_zone"),
        ("PRAGMA application_id = 1", "not a tcmu-restore"),
        ("UPDATE fact SET value = '{'", "damaged"),
    ],
)
def test_damage_is_refused(tmp_path: Path, statement: str, match: str) -> None:
    path = tmp_path / "v.db"
    written(path)
    change(path, statement)
    refuse(path, StateCorruptError, match)


def test_a_missing_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "none.db", StateCorruptError, "missing")
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at " * 9)
    refuse(tmp_path / "text.db", StateCorruptError, "not a database")


def test_a_full_file_system_fails_the_commit_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, {})

    async def go() -> None:
        db, _ = StateDb.open(path)
        db._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StateWriteError, match="full"):
            await db.commit_facts({"long": "x" * 100_000})
        db._connection.execute("PRAGMA max_page_count = 100000")
        await db.commit_facts({"short": 1})
        await db.close()

    asyncio.run(go())
