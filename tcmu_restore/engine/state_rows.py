"""The rows of a state database: read, checked one by one and as a whole, and decoded.

What is wrong goes to *reject*, which may raise, so that the same code refuses a damaged state and
saves from it what can be trusted. A row counts only with its own checksum.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pyroaring import BitMap64

from ..core.region_sets import CHUNK_REGIONS, RegionSets
from .state_schema import KINDS, TABLES, StoredState, add_checksums, checksum_of

KINDS_1: Final = ("current", "host_written", "stale", "in_doubt", "outdated")
"""The region sets of version 1: the columns of its map chunks."""

DAMAGE: Final = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged database raises; the other one comes with messages that quote it."""

Reject = Callable[[str], None]
"""Takes what is wrong. Raises, or notes it; then what is wrong is left out."""


@dataclass(slots=True)
class Rows:
    """Rows with the right checksums, not yet decoded."""

    facts: dict[str, bytes] = field(default_factory=dict)
    regions: dict[tuple[int, str], bytes] = field(default_factory=dict)
    zones: set[int] = field(default_factory=set)
    commits: int = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.facts) + len(self.regions) + len(self.zones)


def one_line(error: Exception) -> str:
    """Return what *error* says, fit for a log: without line breaks and control characters."""
    words = " ".join(str(error).split())
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def collect_rows(connection: sqlite3.Connection, version: int, reject: Reject) -> Rows:
    """Return all rows whose checksums are right; the others go to *reject*. May sqlite3.Error."""
    return (_collect_1 if version == 1 else _collect)(connection, reject)


def _collect(connection: sqlite3.Connection, reject: Reject) -> Rows:
    rows = Rows()
    total = 0
    _check_tables(connection, reject)
    for name, value, checksum in _checked(connection, "fact", "rowid", reject):
        total = add_checksums(total, checksum)
        rows.facts[name.decode()] = value
    for chunk, kind, blob, checksum in _checked(connection, "region_set", "chunk, kind", reject):
        total = add_checksums(total, checksum)
        rows.regions[chunk, kind.decode()] = blob
    for zone, checksum in _checked(connection, "armed_zone", "zone", reject):
        total = add_checksums(total, checksum)
        rows.zones.add(zone)
    seals = list(_checked(connection, "seal", "id", reject))
    if [seal[0] for seal in seals] != [1]:
        reject("its seal is missing")
    for _, rows.commits, sealed, _ in seals:
        if sealed != total:
            reject("rows are missing, or there are too many")
    return rows


def _check_tables(connection: sqlite3.Connection, reject: Reject) -> None:
    query = "SELECT type, name, sql FROM sqlite_schema"
    expected = {(b"table", name.encode(), sql.encode()) for name, sql in TABLES.items()}
    found = set(connection.execute(query))
    for name in TABLES:
        if name.encode() not in {row[1] for row in found}:
            reject(f"it has no table {name}")
    if found != expected:
        reject("its tables are not those of a state")


def _checked(
    connection: sqlite3.Connection, table: str, key: str, reject: Reject
) -> Iterator[tuple[Any, ...]]:
    for row in _scan(connection, table, key, reject):
        *values, checksum = row
        signed = values[1:] if table == "seal" else values
        if _is_typed(row) and checksum_of(table, *signed) == checksum:
            yield row
        else:
            reject(f"the checksum of {_name_of(table, values)} is wrong")


def _name_of(table: str, values: list[Any]) -> str:
    """Say in words which row it is, as far as its damaged values can be believed."""
    words = [
        value.decode(errors="replace") if isinstance(value, bytes) else value for value in values
    ]
    match table:
        case "fact":
            return f"the fact {words[0]!r}"
        case "region_set":
            return f"the {words[1]!r} regions of chunk {words[0]!r}"
        case "armed_zone":
            return f"armed zone {words[0]!r}"
        case _:
            return f"its {table}"


def _scan(
    connection: sqlite3.Connection, table: str, key: str, reject: Reject
) -> list[tuple[Any, ...]]:
    """Return the rows of *table*; past a broken page also those that are reached from the end.

    Some are returned twice then.
    """
    found: list[tuple[Any, ...]] = []
    for order in ("ASC", "DESC"):
        columns = ", ".join(f"{part} {order}" for part in key.split(", "))
        try:
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY {columns}"):  # noqa: S608
                found.append(row)
        except DAMAGE as error:
            reject(f"table {table}: {one_line(error)}")
        else:
            break
    return found


def _collect_1(connection: sqlite3.Connection, reject: Reject) -> Rows:
    rows = Rows()
    for name, value in _typed(connection, "fact", "name", reject):
        rows.facts[name.decode(errors="replace")] = value
    for chunk, checksum, *blobs in _typed(connection, "map_chunk", "chunk", reject):
        if checksum != _checksum_1(chunk, blobs):
            reject(f"the checksum of map chunk {chunk} is wrong")
            continue
        rows.regions |= {(chunk, kind): blob for kind, blob in zip(KINDS_1, blobs, strict=True)}
    rows.zones = {zone for (zone,) in _typed(connection, "armed_zone", "zone", reject)}
    return rows


def _typed(
    connection: sqlite3.Connection, table: str, key: str, reject: Reject
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of *table* without empty values; for version 1, which has no checksums."""
    for row in _scan(connection, table, key, reject):
        if _is_typed(row):
            yield row
        else:
            reject(f"a row of table {table} is damaged")


def _is_typed(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | bytes) for value in values)


def _checksum_1(chunk: int, blobs: list[bytes]) -> int:
    checksum = zlib.crc32(chunk.to_bytes(8, "little", signed=True))
    for blob in blobs:
        checksum = zlib.crc32(blob, zlib.crc32(len(blob).to_bytes(8, "little"), checksum))
    return checksum


# --- decoding -----------------------------------------------------------------------------


def decode_rows(rows: Rows, reject: Reject) -> StoredState:
    """Return what the rows say. Blobs are decoded only because their checksums are right."""
    facts = {}
    for name, value in rows.facts.items():
        try:
            facts[name] = json.loads(value)
        except ValueError:
            reject(f"the fact {name!r} is damaged")
    sets = RegionSets.empty()
    for (chunk, kind), blob in rows.regions.items():
        if kind not in KINDS:
            reject(f"it has regions of the unknown kind {kind!r}")
            continue
        regions = BitMap64.deserialize(blob)
        if regions.issubset(BitMap64(range(chunk * CHUNK_REGIONS, (chunk + 1) * CHUNK_REGIONS))):
            getattr(sets, kind).update(regions)
        else:
            reject(f"chunk {chunk} holds regions of another one")
    problem = sets.problem()
    if problem is not None:
        reject(problem)
    return StoredState(facts, sets, frozenset(rows.zones))
