"""``snapshot-export`` from one end to the other: opens the snapshot, asks the backup who it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..engine.creation import CONNECT_SECONDS, probe_backup
from ..engine.definition import PeerDefinition
from ..engine.opening import connect_peer
from ..errors import BadSettingError, ExportRefusedError, SizeMismatchError, SnapshotIsBackupError
from ..sources.base import BlockSource, SourceGeometry
from ..sources.file import FileStore
from ..sources.image_extent import can_compress
from ..sources.image_manifest import ImageHeader, Manifest, check_header
from .export import Report, export_snapshot
from .image_writer import ImageWriter

SESSIONS = 2
"""To a snapshot behind iSCSI: bulk transfer gains from several connections."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export, and whose it is: exactly one of *backup* and *backup_identity* is given."""

    source: str
    """An iscsi:// URL, or the path of a device or file."""

    directory: Path
    backup: str | None = None
    """The URL of the live backup LUN: it is asked for its identity."""

    backup_identity: str | None = None
    credentials: str | None = None
    compression: str = "none"
    check_space: bool = True


def run_export(request: ExportRequest, report: Report, verified: Callable[[int], None]) -> Manifest:
    """Export, and return the manifest; *verified* counts what is read back of an earlier run.

    Raises:
        UserError: it cannot begin; nothing was changed. SourceError: it did not get to its end; the
            same call goes on.
    """
    return asyncio.run(_run(request, report, verified))


async def _run(request: ExportRequest, report: Report, verified: Callable[[int], None]) -> Manifest:
    if request.compression == "zstd" and not can_compress():
        raise BadSettingError("compress", "zstd", "the Python package zstandard is not installed")
    async with _opened(request) as source:
        header = _header(request, source.geometry, await _backup_identity(request, source))
        loop = asyncio.get_running_loop()
        writer = await loop.run_in_executor(
            None, ImageWriter.open, request.directory, header, verified
        )
        try:
            return await export_snapshot(source, writer, report, check_space=request.check_space)
        finally:
            writer.close()


@asynccontextmanager
async def _opened(request: ExportRequest) -> AsyncIterator[BlockSource]:
    if "://" not in request.source:
        disk = FileStore.open(request.source, read_only=True)
        try:
            yield disk
        finally:
            await disk.close()
        return
    peer = PeerDefinition(request.source, request.credentials)
    lun = connect_peer(peer, None, instance="export", sessions=SESSIONS, read_only=True)
    try:
        await lun.wait_ready(CONNECT_SECONDS)
        yield lun
    finally:
        await lun.close()


async def _backup_identity(request: ExportRequest, source: BlockSource) -> str:
    """Return the identity of the live backup, as a volume records it."""
    identity = request.backup_identity
    if request.backup is not None:
        found = await probe_backup(PeerDefinition(request.backup, request.credentials))
        size = source.geometry.size
        if found.size != size:
            raise SizeMismatchError(f"The snapshot {request.source}", size, found.size)
        identity = found.identity
    assert identity is not None
    if identity == source.geometry.identity:
        raise SnapshotIsBackupError(request.source)
    return identity


def _header(request: ExportRequest, geometry: SourceGeometry, identity: str) -> ImageHeader:
    header = ImageHeader(
        backup_identity=identity,
        source_identity=geometry.identity,
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        size=geometry.size,
        block_size=geometry.block_size,
        compression=request.compression,
    )
    try:
        check_header(header)
    except ValueError as error:
        raise ExportRefusedError(str(request.directory), str(error)) from error
    return header
