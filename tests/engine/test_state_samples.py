"""State files that earlier versions wrote, kept in ``samples``, are read and taken over.

Each was copied with its log while it was open, as a crash leaves it. A sample is never made anew:
when the schema changes, one of the new version is added.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.core.region_sets import CHUNK_REGIONS
from tcmu_restore.engine.state_db import StateDb, StoredState
from tcmu_restore.engine.state_files import beside
from tcmu_restore.engine.state_reading import load
from tcmu_restore.engine.state_schema import SCHEMA_VERSION, migrate
from tcmu_restore.errors import StateCorruptError, StateWriteError

from .state_samples import SAMPLES

VERSIONS = range(1, SCHEMA_VERSION + 1)


@pytest.fixture(params=VERSIONS)
def sample(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return copied(request.param, tmp_path)


def copied(version: int, folder: Path) -> Path:
    for file in SAMPLES.glob(f"state-v{version}.db*"):
        shutil.copy(file, folder)
    return folder / f"state-v{version}.db"


def check_stored(stored: StoredState, version: int) -> None:
    """Check what all samples hold."""
    assert stored.facts == {
        "size": 1 << 30,
        "block_size": 512,
        "region_size": 4096,
        "zone_size": 4 << 20,
        "backup": {
            "size": 1 << 30,
            "block_size": 512,
            "identity": "naa.60000000000000000e00000000010001",
        },
        "primary_identity": "file:/srv/vm01.img",
        "snapshot": None,
        "merge": "paused",
        "counters": {"flushes": 2},
    }
    assert stored.armed_zones == {5, 9}
    sets = stored.sets
    assert set(sets.current) == {
        *set(range(100)) - {42, 43},
        *range(5120, 5123),
        *range(CHUNK_REGIONS - 5, CHUNK_REGIONS + 7),
    }
    assert set(sets.host_written) == {*range(40, 42), *range(44, 50), *range(5120, 5123)}
    assert set(sets.stale) == {41, CHUNK_REGIONS + 1}
    assert set(sets.in_doubt) == {42, 43, 300, 301}
    assert set(sets.outdated) == {42}
    assert set(sets.kept) == (set() if version == 1 else {43})


def version_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(version)


def test_a_sample_of_every_version_is_opened_and_becomes_one_of_this_version(sample: Path) -> None:
    version = load(sample).version
    assert sample.name == f"state-v{version}.db"
    facts = StateDb.peek(sample)

    async def go() -> None:
        db, stored = StateDb.open(sample)
        check_stored(stored, version)
        assert stored.facts == facts
        await db.commit_intent([100], [5])
        await db.commit_facts({"merge": "running"})
        await db.close()

    asyncio.run(go())
    assert version_of(sample) == SCHEMA_VERSION
    loaded = load(sample)
    assert loaded.version == SCHEMA_VERSION
    assert loaded.stored.armed_zones == {9, 100}
    assert loaded.stored.facts == {**facts, "merge": "running"}


def test_peeking_at_a_sample_changes_nothing(sample: Path) -> None:
    before = {file: file.read_bytes() for file in sample.parent.iterdir()}
    StateDb.peek(sample)
    assert before == {file: file.read_bytes() for file in sample.parent.iterdir()}


@pytest.mark.parametrize("number", range(1, 30, 3))
def test_a_migration_that_fails_leaves_the_old_version(tmp_path: Path, number: int) -> None:
    path = copied(1, tmp_path)
    stored = load(path).stored
    with closing(sqlite3.connect(path, isolation_level=None)) as real:
        failing: Any = FailingConnection(real, number)
        with pytest.raises(sqlite3.OperationalError, match="call"):
            migrate(failing, stored)
    loaded = load(path)
    assert loaded.version == 1
    check_stored(loaded.stored, 1)


class FailingConnection:
    """A connection whose *number*-th statement fails."""

    def __init__(self, real: sqlite3.Connection, number: int) -> None:
        self._real = real
        self._left = number

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self._left -= 1
        if self._left == 0:
            raise sqlite3.OperationalError("call")
        return self._real.execute(*args)


def test_a_sample_that_cannot_be_migrated_is_not_called_damaged(tmp_path: Path) -> None:
    path = copied(1, tmp_path)
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateWriteError, match="locked"):
        StateDb.open(path)
    other.close()
    assert beside(path, "-mark").exists() is False


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("UPDATE map_chunk SET current = host_written", "checksum of map chunk 0"),
        ("UPDATE map_chunk SET chunk = 2 WHERE chunk = 1", "checksum of map chunk 2"),
        ("UPDATE fact SET value = '{' WHERE name = 'size'", "the fact 'size' is damaged"),
        ("DROP TABLE armed_zone", "no such table: armed_zone"),
    ],
)
def test_what_version_1_could_check_is_still_checked(
    tmp_path: Path, statement: str, match: str
) -> None:
    path = copied(1, tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    with pytest.raises(StateCorruptError, match=match):
        StateDb.open(path)
