"""States to damage: their files as bytes, with what they say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pyroaring import BitMap64

from tcmu_restore.core.overwrite_map import OverwriteMap
from tcmu_restore.core.region_sets import CHUNK_REGIONS, RegionSets
from tcmu_restore.engine.state_db import StateDb, StoredState
from tcmu_restore.engine.state_files import MARK, WAL, StateFiles, beside, encode_mark, read_files

SAMPLES = Path(__file__).parent / "samples"
REGION = 4096
ZONE = 4 << 20
FACTS: dict[str, Any] = {
    "size": 3 * CHUNK_REGIONS * REGION,
    "block_size": 512,
    "region_size": REGION,
    "zone_size": ZONE,
    "backup": {"size": 3 * CHUNK_REGIONS * REGION, "block_size": 512, "identity": "naa.1"},
    "primary_identity": "file:/srv/vm01.img",
    "snapshot": None,
    "merge": "idle",
}


def changed_map() -> OverwriteMap:
    """A map with something of every kind that a state file had from its first version on."""
    overwrite_map = OverwriteMap(3 * CHUNK_REGIONS)
    in_armed_zone = 5 * ZONE // REGION + 3
    found = [*range(100), in_armed_zone, CHUNK_REGIONS - 1, CHUNK_REGIONS + 7]
    overwrite_map.mark_fetched(BitMap64(found))
    overwrite_map.mark_host_written(range(40, 50))
    overwrite_map.mark_stale(BitMap64([41, 42, 99, CHUNK_REGIONS + 7]))
    overwrite_map.mark_in_doubt(BitMap64([300, 301]))
    overwrite_map.mark_lost(BitMap64([42, 43]))
    return overwrite_map


def changed_state() -> StoredState:
    """What ``commit_changes`` leaves in a state made with ``FACTS``."""
    facts = {**FACTS, "merge": "paused", "counters": {"flushes": 3}}
    return StoredState(facts, changed_map().sets, frozenset({5, 9}))


async def commit_changes(db: StateDb) -> None:
    """Commit six times; among them what is overwritten and taken back later."""
    overwrite_map = OverwriteMap(3 * CHUNK_REGIONS)
    overwrite_map.mark_fetched(BitMap64(range(2 * CHUNK_REGIONS - 3, 2 * CHUNK_REGIONS + 3)))
    await db.commit_intent([0, 5], [])
    await db.commit_map(overwrite_map.take_image(), {"counters": {"flushes": 1}})
    await db.commit_intent([9], [0])
    empty = RegionSets.empty()
    image = changed_map().take_image()
    image.chunks[2] = empty
    await db.commit_map(image, {"counters": {"flushes": 2}})
    await db.commit_facts({"merge": "running"})
    await db.commit_facts({"merge": "paused", "counters": {"flushes": 3}})


def made_files(path: Path) -> tuple[StateFiles, StateFiles]:
    """Make ``changed_state`` at *path*; return its files before it was closed, and after."""
    StateDb.create(path, FACTS)

    async def go() -> StateFiles:
        db, _ = StateDb.open(path)
        await commit_changes(db)
        unclean = read_files(path)
        await db.close()
        return unclean

    return asyncio.run(go()), read_files(path)


def put_files(path: Path, files: StateFiles) -> None:
    """Write *files* as the state *path*; nothing else stays of it."""
    for suffix, content in (
        ("", files.main),
        (WAL, files.wal),
        (MARK, b"" if files.mark is None else encode_mark(files.mark)),
    ):
        beside(path, suffix).unlink(missing_ok=True)
        if content:
            beside(path, suffix).write_bytes(content)


def flipped(content: bytes, bit: int) -> bytes:
    """*content* with one bit flipped."""
    found = bytearray(content)
    found[bit // 8] ^= 1 << bit % 8
    return bytes(found)


def zeroed(content: bytes, start: int, length: int) -> bytes:
    """*content* with zeros in one place."""
    return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]
