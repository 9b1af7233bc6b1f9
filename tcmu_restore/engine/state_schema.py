"""The tables of a state database, and the only code that changes their rows.

Every row has a checksum of its own. The *seal*, one more row, has the sum of them all and the
number of commits, and is written with every transaction: a row that is changed, missing or too many
is found when the state is read, and so are commits that vanished. SQLite itself has no checksums in
its database file.

Facts are open to any name. A kind of region set is a field of ``RegionSets``; to add one, raise
``SCHEMA_VERSION``, so that an older program does not pass it over. Empty sets have no row.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, fields
from typing import Any, Final

from ..core.region_sets import CHUNK_REGIONS, MapImage, RegionSets

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = 0x54435552  # "TCUR", so that file(1) and we know it
PAGE_SIZE: Final = 1024
"""Bytes. Arming a zone writes two pages to the log, so small ones are the cheaper ones."""

TABLES: Final = {
    "fact": """CREATE TABLE fact (
  name TEXT NOT NULL, value TEXT NOT NULL, checksum INTEGER NOT NULL
) STRICT""",
    "region_set": """CREATE TABLE region_set (
  chunk INTEGER NOT NULL, kind TEXT NOT NULL, regions BLOB NOT NULL, checksum INTEGER NOT NULL,
  PRIMARY KEY (chunk, kind)
) STRICT, WITHOUT ROWID""",
    "armed_zone": """CREATE TABLE armed_zone (
  zone INTEGER PRIMARY KEY, checksum INTEGER NOT NULL
) STRICT""",
    "seal": """CREATE TABLE seal (
  id INTEGER PRIMARY KEY, commits INTEGER NOT NULL, total INTEGER NOT NULL,
  checksum INTEGER NOT NULL
) STRICT""",
}

TABLES_1: Final = ("fact", "map_chunk", "armed_zone")
"""The tables of version 1. It had checksums of map chunks only."""

KINDS: Final = tuple(item.name for item in fields(RegionSets))

_WORD: Final = 1 << 64


@dataclass(slots=True)
class StoredState:
    """What a state file holds: facts (JSON values by name), the map and the intent log."""

    facts: dict[str, Any]
    sets: RegionSets
    armed_zones: frozenset[int]


def checksum_of(table: str, *values: int | str | bytes) -> int:
    """Return the 64-bit checksum of a row with these values, as SQLite's signed integer."""
    found = hashlib.blake2b(digest_size=8, person=table.encode())
    for value in values:
        data = value.to_bytes(8, "little", signed=True) if isinstance(value, int) else value
        data = data.encode() if isinstance(data, str) else data
        found.update(len(data).to_bytes(8, "little") + data)
    return int.from_bytes(found.digest(), "little", signed=True)


def add_checksums(total: int, change: int) -> int:
    """Return the sum of two checksums, as SQLite's signed integer."""
    return (total + change + _WORD // 2) % _WORD - _WORD // 2


class StateWriter:
    """Changes rows within one transaction that the caller begins and ends.

    Rows that would not change are not written. All methods raise sqlite3.Error; then the
    transaction is to be rolled back and the writer thrown away.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._change = 0
        self._has_changed = False

    def put_facts(self, facts: dict[str, Any]) -> None:
        """Set some facts; others stay."""
        for name, value in facts.items():
            text = json.dumps(value)
            checksum = checksum_of("fact", name, text)
            query = "SELECT checksum FROM fact WHERE name = ?"
            found = self._connection.execute(query, (name,)).fetchone()
            if not self._count(found[0] if found else 0, checksum):
                continue
            statement = "INSERT INTO fact (value, checksum, name) VALUES (?, ?, ?)"
            if found:
                statement = "UPDATE fact SET value = ?, checksum = ? WHERE name = ?"
            self._connection.execute(statement, (text, checksum, name))

    def put_image(self, image: MapImage) -> None:
        """Replace the chunks of *image*; others stay."""
        for chunk, sets in image.chunks.items():
            query = "SELECT kind, checksum FROM region_set WHERE chunk = ?"
            known = dict(self._connection.execute(query, (chunk,)).fetchall())
            for kind in KINDS:
                regions = getattr(sets, kind)
                blob = regions.serialize() if regions else b""
                self._put_regions(chunk, kind, blob, known.get(kind, 0))

    def _put_regions(self, chunk: int, kind: str, blob: bytes, known: int) -> None:
        checksum = checksum_of("region_set", chunk, kind, blob) if blob else 0
        if not self._count(known, checksum):
            return
        if blob:
            self._connection.execute(
                "INSERT OR REPLACE INTO region_set VALUES (?, ?, ?, ?)",
                (chunk, kind, blob, checksum),
            )
        else:
            self._connection.execute(
                "DELETE FROM region_set WHERE chunk = ? AND kind = ?", (chunk, kind)
            )

    def arm(self, zones: Iterable[int]) -> None:
        """Note *zones* as armed."""
        for zone in zones:
            checksum = checksum_of("armed_zone", zone)
            statement = "INSERT OR IGNORE INTO armed_zone VALUES (?, ?)"
            if self._connection.execute(statement, (zone, checksum)).rowcount:
                self._count(0, checksum)

    def disarm(self, zones: Iterable[int]) -> None:
        """Note *zones* as not armed."""
        for zone in zones:
            statement = "DELETE FROM armed_zone WHERE zone = ?"
            if self._connection.execute(statement, (zone,)).rowcount:
                self._count(checksum_of("armed_zone", zone), 0)

    def seal(self) -> int | None:
        """Make the rows whole; return the number of this commit, or None if nothing changed."""
        if not self._has_changed:
            return None
        query = "SELECT commits, total FROM seal WHERE id = 1"
        commits, total = self._connection.execute(query).fetchone()
        commits, total = commits + 1, add_checksums(total, self._change)
        self._connection.execute(
            "UPDATE seal SET commits = ?, total = ?, checksum = ? WHERE id = 1",
            (commits, total, checksum_of("seal", commits, total)),
        )
        return int(commits)

    def _count(self, old: int, new: int) -> bool:
        """Note that a row changes, if it does; 0 stands for no row."""
        self._change += new - old
        self._has_changed |= old != new
        return old != new


def write_state(connection: sqlite3.Connection, stored: StoredState) -> None:
    """Make the tables in a database that has none of them, and fill them. Raises sqlite3.Error."""
    for statement in TABLES.values():
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    seal = (0, 0, checksum_of("seal", 0, 0))
    connection.execute("INSERT INTO seal VALUES (1, ?, ?, ?)", seal)
    writer = StateWriter(connection)
    writer.put_facts(stored.facts)
    writer.put_image(MapImage(_chunks(stored.sets)))
    writer.arm(stored.armed_zones)
    writer.seal()


def _chunks(sets: RegionSets) -> dict[int, RegionSets]:
    last = max((kind.max() for kind in map(sets.__getattribute__, KINDS) if kind), default=-1)
    windows = (range(start, start + CHUNK_REGIONS) for start in range(0, last + 1, CHUNK_REGIONS))
    return {window.start // CHUNK_REGIONS: sets.within(window) for window in windows}


def encode_state(stored: StoredState) -> bytes:
    """Return a whole database file that holds *stored*. Raises sqlite3.Error."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("BEGIN")
        write_state(connection, stored)
        connection.execute("COMMIT")
        content = bytearray(connection.serialize())
    content[18:20] = b"\2\2"  # it is to be written through a write-ahead log
    return bytes(content)


def migrate(connection: sqlite3.Connection, stored: StoredState) -> None:
    """Turn a database of version 1, which holds *stored*, into one of this version.

    Raises sqlite3.Error: nothing is changed once *connection* is closed; trying again may help.
    """
    connection.execute("BEGIN IMMEDIATE")
    for table in TABLES_1:
        connection.execute(f"DROP TABLE {table}")
    write_state(connection, stored)
    connection.execute("COMMIT")
