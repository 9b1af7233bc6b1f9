"""The snapshot of an open volume: connected, checked (MRG-2), and taken up after a restart."""

from __future__ import annotations

import logging
from asyncio import get_running_loop
from typing import Any

from ..errors import (
    BadSettingError,
    BlockSizeMismatchError,
    IdentityMismatchError,
    RestoreError,
    SizeMismatchError,
    SnapshotIsBackupError,
)
from ..log_line import log_line
from ..snapshots.identity import is_snapshot_of, origin_of_serial
from ..sources.absent_source import AbsentSource
from ..sources.base import BlockSource, SourceGeometry
from ..sources.file import FileStore
from ..sources.image_directory import is_image
from ..sources.iscsi import IscsiStore
from ..sources.snapshot_image import SnapshotImage
from .creation import CONNECT_SECONDS
from .definition import PeerDefinition
from .link_settings import parse_link
from .merge_job import MergeState
from .opening import connect_peer
from .volume_engine import VolumeEngine

log = logging.getLogger(__name__)

SNAPSHOT_SESSIONS = 2
"""Bulk transfer over two TCP connections."""


async def attach(engine: VolumeEngine, record: dict[str, Any]) -> None:
    """Connect to the snapshot of *record*, check it, and use it. Raises as the registry's verb."""
    source = await _connect(engine, record, None)
    try:
        if isinstance(source, IscsiStore):
            await source.wait_ready(CONNECT_SECONDS)
        _check(engine, source)
        found = source.geometry
        record |= {"size": found.size, "identity": found.identity}
        record["block_size"] = found.block_size
        await engine.set_snapshot(source, record)
    except BaseException:
        await source.close()
        raise


async def _connect(
    engine: VolumeEngine, record: dict[str, Any], expected: SourceGeometry | None
) -> BlockSource:
    if "://" not in record["source"] and is_image(record["source"]):
        loop = get_running_loop()  # its index may be large
        return await loop.run_in_executor(None, SnapshotImage.open, record["source"])
    if "://" not in record["source"]:
        return FileStore.open(record["source"], read_only=True)
    link = parse_link(record.get("link", {}), bulk=True)
    peer = PeerDefinition(record["source"], record["credentials"], link)
    return connect_peer(
        peer,
        expected,
        engine.snapshot_changed,
        instance=f"{engine.name}/snapshot",
        sessions=SNAPSHOT_SESSIONS,
        read_only=True,
        start=expected is None or not link.link_up,  # else when the link is up
    )


async def use_recorded(engine: VolumeEngine, record: dict[str, Any]) -> None:
    """Use the snapshot of *record*, which was attached before. Raises as it is not used."""
    expected = _recorded(record)
    source = await _connect(engine, record, expected)
    try:
        if not isinstance(source, IscsiStore):
            _check(engine, source, expected)
    except BaseException:
        await source.close()
        raise
    before = engine.snapshot
    engine.use_snapshot(source, record)
    if before is not None:
        await before.close()


async def take_up(engine: VolumeEngine) -> None:
    """After a restart: the snapshot that was attached, and the merge where it was (MRG-2)."""
    record = engine.facts.get("snapshot")
    if record is not None:
        try:
            await use_recorded(engine, record)
        except RestoreError as error:
            sentence = f"the snapshot is not used: {error}"
            log.warning(log_line(sentence, volume=engine.name, operation="open"))
            absent = AbsentSource(record["source"], _recorded(record), _reason(error))
            engine.use_snapshot(absent, record)
    engine.merge.bad_extents = engine.facts.get("merge_bad_extents", 0)
    was = engine.facts.get("merge")
    if was == MergeState.RUNNING.value:
        engine.merge.resume()
    elif was == MergeState.PAUSED.value:
        engine.merge.pause()


def link_of(engine: VolumeEngine, snapshot: str, link: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the link to *snapshot*. Raises BadSettingError."""
    if "://" in snapshot:
        return engine.definition.snapshot_link | link
    for name in link:
        raise BadSettingError(name, "…", "a snapshot that is no iscsi:// URL has no link")
    return {}


def _recorded(record: dict[str, Any]) -> SourceGeometry:
    return SourceGeometry(record["size"], record["block_size"], record["identity"])


def _reason(error: RestoreError) -> str:
    """Return why a recorded snapshot is not used, to stand behind its name."""
    return str(getattr(error, "reason", "") or error)


def _check(
    engine: VolumeEngine,
    source: BlockSource,
    expected: SourceGeometry | None = None,
) -> None:
    """Raise unless *source* can be a snapshot of the volume's backup (MRG-2)."""
    geometry, found, name = engine.volume.state.geometry, source.geometry, source.name
    backup = engine.facts["backup"]["identity"]
    if found.identity == backup:
        raise SnapshotIsBackupError(name)
    if isinstance(source, SnapshotImage) and source.backup_identity != backup:
        what = f"The backup that {name} was exported from"
        raise IdentityMismatchError(what, source.backup_identity, backup)
    if is_snapshot_of(found.identity, backup) is False:  # the backup host has marked it
        what = f"The LUN of which {name} is a snapshot"
        raise IdentityMismatchError(what, f"serial.{origin_of_serial(found.identity)}", backup)
    if found.size != geometry.size:
        raise SizeMismatchError(f"The snapshot {name}", found.size, geometry.size)
    if found.block_size > geometry.block_size:
        raise BlockSizeMismatchError(f"The snapshot {name}", found.block_size, geometry.block_size)
    if expected is not None and found != expected:
        raise IdentityMismatchError(f"The snapshot {name}", found.identity, expected.identity)
