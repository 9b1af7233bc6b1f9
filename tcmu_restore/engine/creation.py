"""Looks at a backup and a disk before a volume is made of them, and gathers what is recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..errors import BlockSizeMismatchError, PrimaryTooSmallError
from ..options import VolumeOptions
from ..sources.base import SourceGeometry
from ..sources.file import FileStore
from .definition import PeerDefinition
from .merge_job import MergeState
from .opening import connect_peer

CONNECT_SECONDS = 10.0
"""How long a verb that needs a peer waits for it."""


async def probe_backup(peer: PeerDefinition, *, flush: bool = False) -> SourceGeometry:
    """Return what the backup is, and *flush* it. Raises SourceError if it does not answer."""
    store = connect_peer(peer, None)
    try:
        await store.wait_ready(CONNECT_SECONDS)
        if flush:
            await store.flush()
        return store.geometry
    finally:
        await store.close()


async def probe_primary(primary: str, backup: SourceGeometry) -> SourceGeometry:
    """Return what the disk is. Raises UserError if it cannot hold what *backup* holds."""
    store = FileStore.open(primary)
    try:
        found = store.geometry
    finally:
        await store.close()
    if found.size < backup.size:
        raise PrimaryTooSmallError(primary, found.size, backup.size)
    if found.block_size > backup.block_size:
        raise BlockSizeMismatchError(f"The disk {primary}", found.block_size, backup.block_size)
    return found


def first_facts(
    backup: SourceGeometry, primary: SourceGeometry, options: VolumeOptions
) -> dict[str, Any]:
    """Return the facts of a new volume."""
    return {
        "size": backup.size,
        "block_size": backup.block_size,
        "region_size": options.region_size,
        "zone_size": options.zone_size,
        "backup": {
            "size": backup.size,
            "block_size": backup.block_size,
            "identity": backup.identity,
        },
        "primary_identity": primary.identity,
        "snapshots_since": datetime.now(UTC).isoformat(),
        "snapshot": None,
        "merge": MergeState.IDLE.value,
    }
