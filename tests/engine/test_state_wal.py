"""What a crash leaves is read as it was committed: the search for damage has no false alarms."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.core.region_sets import RegionSets
from tcmu_restore.engine.state_db import StateDb, StoredState
from tcmu_restore.engine.state_files import StateFiles, read_files
from tcmu_restore.engine.state_reading import check
from tcmu_restore.engine.state_wal import parse_log

from .state_samples import put_files

SECTOR = 512
LOG_HEADER = 32


@dataclass(frozen=True)
class Step:
    """The files when one commit was durable, and what they say."""

    files: StateFiles
    facts: dict[str, Any]
    zones: frozenset[int]


async def some_commits(path: Path, chance: random.Random, number: int) -> list[Step]:
    """Commit at random; the log is folded into the database and begun anew every few commits."""
    db, stored = StateDb.open(path)
    db._connection.execute("PRAGMA wal_autocheckpoint = 12")
    db._connection.execute("PRAGMA synchronous = OFF")  # faster; the order of writes is the same
    facts, zones = dict(stored.facts), set(stored.armed_zones)
    steps = [Step(read_files(path), dict(facts), frozenset(zones))]
    for _ in range(number):
        if chance.random() < 0.5:
            armed, disarmed = (chance.sample(range(400), chance.choice([1, 80])) for _ in "ab")
            await db.commit_intent(armed, disarmed)
            zones = (zones | set(armed)) - set(disarmed)
        else:
            changed = {f"f{chance.randrange(4)}": "x" * chance.choice([1, 900, 5000])}
            await db.commit_facts(changed)
            facts |= changed
        steps.append(Step(read_files(path), dict(facts), frozenset(zones)))
    db._close()  # a crash: what is on the disk was read before
    db._thread.shutdown()
    return steps


def torn(chance: random.Random, before: bytes, after: bytes) -> bytes:
    """*after*, as a crash leaves it: of each sector that changed, the old or the new content."""
    before = before.ljust(len(after), b"\0")
    found = bytearray(after)
    for start in range(0, len(after), SECTOR):
        if chance.random() < 0.5:
            found[start : start + SECTOR] = before[start : start + SECTOR]
    return bytes(found)


def torn_log(chance: random.Random, before: bytes, after: bytes) -> bytes:
    """SQLite flushes a new header before it writes frames: it is there, or all is as it was."""
    if before[:LOG_HEADER] == after[:LOG_HEADER]:
        return torn(chance, before, after)
    if chance.random() < 0.2:
        return before
    return torn(chance, after[:LOG_HEADER] + before[LOG_HEADER:], after)


def says(found: StoredState, step: Step) -> bool:
    return (found.facts, found.armed_zones) == (step.facts, step.zones)


@pytest.mark.parametrize("seed", range(6))
def test_every_crash_leaves_a_state_that_is_read_as_committed(tmp_path: Path, seed: int) -> None:
    """Crash in a commit, go on with what that left in the log, crash again."""
    chance = random.Random(seed)
    path = tmp_path / "v.db"
    StateDb.create(path, {"seed": seed})
    for _ in range(6):
        steps = asyncio.run(some_commits(path, chance, 5))
        for before, after in pairwise(steps):
            for _ in range(6):  # while the log is written
                log = torn_log(chance, before.files.wal, after.files.wal)
                files = replace(before.files, wal=log)
                found = check(files).stored
                assert says(found, before) or says(found, after)
                # while the log is folded into the database
                main = torn(chance, before.files.main, after.files.main)
                found = check(replace(after.files, main=main)).stored
                assert says(found, after)
        put_files(path, files)


def test_sqlite_reads_what_was_checked(tmp_path: Path) -> None:
    """The log is understood here as SQLite understands it."""
    chance = random.Random(5)
    path = tmp_path / "v.db"
    StateDb.create(path, {})
    for before, after in (
        (step, following)
        for steps in [asyncio.run(some_commits(path, chance, 40))]
        for step, following in pairwise(steps)
    ):
        log = torn_log(chance, before.files.wal, after.files.wal)
        put_files(path, replace(before.files, wal=log))
        loaded = check(read_files(path))
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT commits FROM seal").fetchone() == (loaded.commits,)
        query = "SELECT zone FROM armed_zone"
        assert {zone for (zone,) in connection.execute(query)} == loaded.stored.armed_zones
        connection.close()


def test_bytes_written_are_those_of_the_log_and_the_mark(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, {})

    async def go() -> None:
        db, _ = StateDb.open(path)
        await db.commit_facts({})
        assert (db.transactions, db.bytes_written) == (0, 0)
        await db.commit_facts({"a": 1})
        wal = path.with_name("v.db-wal")
        assert db.bytes_written == wal.stat().st_size + 16
        await db.commit_intent([1], [])
        await db.commit_intent([1], [2])  # changes nothing
        assert db.transactions == 2
        assert db.bytes_written == wal.stat().st_size + 2 * 16
        before = db.bytes_written
        await db.commit_intent([3], [])
        assert db.bytes_written - before == 2 * (24 + 1024) + 16  # the zone's page and the seal's
        db._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        size, before = wal.stat().st_size, db.bytes_written
        await db.commit_intent([4], [])
        assert db.bytes_written - before == LOG_HEADER + 2 * (24 + 1024) + 16
        assert wal.stat().st_size == size
        log = parse_log(wal.read_bytes())
        assert log is not None
        assert log.intact_count == 2
        await db.close()

    asyncio.run(go())


def test_bytes_written_after_a_crash_go_on_behind_the_last_intact_transaction(
    tmp_path: Path,
) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, {})
    steps = asyncio.run(some_commits(path, random.Random(3), 3))
    before = steps[-1].files.wal
    unfinished = before[-(24 + 1024) :]
    put_files(path, replace(steps[-1].files, wal=before + unfinished))

    async def go() -> None:
        db, stored = StateDb.open(path)
        assert stored.sets == RegionSets.empty()
        await db.commit_facts({"b": 1})
        log = parse_log(path.with_name("v.db-wal").read_bytes())
        old = parse_log(before)
        assert log is not None
        assert old is not None
        grown = log.end_of(log.intact_count) - old.end_of(old.intact_count)
        assert db.bytes_written == grown + 16
        await db.close()

    asyncio.run(go())
