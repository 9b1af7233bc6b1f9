"""The state file: what is committed is there again, what is damaged is refused."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from tcmu_restore.core.overwrite_map import OverwriteMap
from tcmu_restore.core.region_sets import CHUNK_REGIONS, RegionSets
from tcmu_restore.engine import state_db
from tcmu_restore.engine.state_db import StateDb
from tcmu_restore.engine.state_reading import load
from tcmu_restore.engine.state_schema import StateWriter
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
    change(path, "PRAGMA user_version = 3")
    refuse(path, StateNewerError, "schema version 3")


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("UPDATE region_set SET regions = x'00'", "'current' regions of chunk 0"),
        ("UPDATE region_set SET chunk = 2 WHERE chunk = 1", "checksum of the 'current' regions"),
        ("UPDATE fact SET value = '{'", "checksum of the fact 'size'"),
        ("UPDATE armed_zone SET zone = 8", "checksum of armed zone 8"),
        ("UPDATE seal SET commits = 9", "checksum of its seal"),
        ("DELETE FROM region_set WHERE chunk = 1", "rows are missing"),
        ("DELETE FROM armed_zone", "rows are missing"),
        ("DELETE FROM fact WHERE name = 'size'", "rows are missing"),
        ("INSERT INTO fact SELECT * FROM fact", "there are too many"),
        ("DELETE FROM seal", "seal is missing"),
        ("DROP TABLE armed_zone", "no table armed_zone"),
        ("CREATE TABLE more (a)", "not those of a state"),
        ("CREATE INDEX extra ON armed_zone (checksum)", "not those of a state"),
        ("PRAGMA application_id = 1", "not a tcmu-restore"),
        ("PRAGMA user_version = 0", "no schema version 0"),
        ("PRAGMA journal_mode = DELETE", "header"),
    ],
)
def test_damage_is_refused(tmp_path: Path, statement: str, match: str) -> None:
    path = tmp_path / "v.db"
    written(path)
    change(path, statement)
    refuse(path, StateCorruptError, match)


@pytest.mark.parametrize(
    ("chunk", "kind", "regions", "match"),
    [
        (0, "shiny", [1], "unknown kind 'shiny'"),
        (1, "current", [1], "chunk 1 holds regions of another one"),
        (0, "stale", [2], "a stale region is not current"),
    ],
)
def test_what_a_mistake_of_ours_committed_is_refused(
    tmp_path: Path, chunk: int, kind: str, regions: list[int], match: str
) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, {})
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        writer = StateWriter(connection)
        writer._put_regions(chunk, kind, BitMap64(regions).serialize(), 0)
        writer.seal()
    refuse(path, StateCorruptError, match)


def test_a_state_that_sqlite_reads_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, {"a": 1})
    loaded = load(path)
    other = replace(loaded, commits=loaded.commits + 1)
    monkeypatch.setattr(state_db, "load", lambda path: other)
    refuse(path, StateCorruptError, "another state than was checked")


def test_a_missing_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "none.db", StateCorruptError, "missing")
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at " * 9)
    refuse(tmp_path / "text.db", StateCorruptError, "not a database")
    (tmp_path / "empty.db").touch()
    refuse(tmp_path / "empty.db", StateCorruptError, "empty")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(StateCorruptError, match="missing"):
        StateDb.open(tmp_path / "folder.db")


def test_create_never_replaces_a_state_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    written(path)
    before = path.read_bytes()
    with pytest.raises(StateWriteError, match="exists"):
        StateDb.create(path, {})
    assert path.read_bytes() == before
    with pytest.raises(StateWriteError, match="No such file"):
        StateDb.create(tmp_path / "none" / "v.db", {})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["v.db", "v.db-mark"]


def test_create_is_not_misled_by_what_an_older_volume_left(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    written(path)
    path.with_name("v.db-wal").write_bytes(b"old" * 100)
    path.unlink()
    StateDb.create(path, {"size": 2})
    assert StateDb.peek(path) == {"size": 2}


def test_an_open_state_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, {})

    async def go() -> None:
        db, _ = StateDb.open(path)
        with pytest.raises(StateWriteError, match="locked"):
            StateDb.open(path)
        await db.commit_facts({"a": 1})
        await db.close()
        again, stored = StateDb.open(path)
        assert stored.facts == {"a": 1}
        await again.close()

    asyncio.run(go())


def test_facts_of_any_name_and_empty_regions_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, {})

    async def go() -> None:
        db, _ = StateDb.open(path)
        overwrite_map = OverwriteMap(CHUNK_REGIONS)
        overwrite_map.mark_fetched(range(5))
        await db.commit_map(overwrite_map.take_image(), {"primary_failed": "why: \u00fc\n"})
        overwrite_map.mark_lost(BitMap64(range(5)))
        await db.commit_map(overwrite_map.take_image(), {})
        await db.close()

    asyncio.run(go())
    db, stored = StateDb.open(path)
    asyncio.run(db.close())
    assert stored.facts == {"primary_failed": "why: \u00fc\n"}
    assert stored.sets == RegionSets.empty()
    change(path, "DELETE FROM region_set")  # there was none: nothing is changed
    assert StateDb.peek(path) == stored.facts


@settings(max_examples=40)
@given(st.data())
def test_any_commits_are_read_as_they_were_made(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("state") / "v.db"
    StateDb.create(path, {})
    numbers = st.sets(st.integers(0, 3 * CHUNK_REGIONS - 1), max_size=40)
    zones: set[int] = set()
    facts: dict[str, Any] = {}
    overwrite_map = OverwriteMap(3 * CHUNK_REGIONS)

    async def commit(db: StateDb, kind: str) -> None:
        if kind == "z":
            armed, disarmed = data.draw(numbers), data.draw(numbers)
            zones.update(armed)
            zones.difference_update(disarmed)
            await db.commit_intent(armed, disarmed)
        elif kind == "f":
            some = data.draw(st.dictionaries(st.text(max_size=3), st.text(), max_size=3))
            facts.update(some)
            await db.commit_facts(some)
        else:
            overwrite_map.mark_lost(BitMap64(data.draw(numbers)))
            lost = BitMap64(data.draw(numbers)) - overwrite_map.sets.current
            overwrite_map.mark_fetched(lost - overwrite_map.sets.outdated)
            overwrite_map.mark_stale(BitMap64(data.draw(numbers)))
            await db.commit_map(overwrite_map.take_image(), {})

    async def go() -> None:
        db, _ = StateDb.open(path)
        db._connection.execute("PRAGMA synchronous = OFF")
        try:
            for kind in data.draw(st.lists(st.sampled_from("zmf"), max_size=8)):
                await commit(db, kind)
            if data.draw(st.booleans()):
                await db.close()
        finally:  # without a close: a crash
            db._close()
            db._thread.shutdown()

    asyncio.run(go())
    stored = load(path).stored
    assert stored.facts == facts
    assert stored.armed_zones == zones
    assert stored.sets == overwrite_map.sets
