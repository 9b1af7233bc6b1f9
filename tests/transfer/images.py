"""Exports of files and of stores, for tests, and ways to damage them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tcmu_restore.sources.base import BlockSource
from tcmu_restore.sources.file import FileStore
from tcmu_restore.sources.image_manifest import ImageHeader, Manifest
from tcmu_restore.transfer.export import Report, export_snapshot
from tcmu_restore.transfer.image_writer import ImageWriter
from tcmu_restore.units import KiB, MiB

BACKUP = "naa.6001405/serial.42"
EXTENT = 64 * KiB
"""The smallest that there is: tests stay small."""


def header(
    source: BlockSource, *, backup: str = BACKUP, compression: str = "none", extent: int = EXTENT
) -> ImageHeader:
    found = source.geometry
    return ImageHeader(
        backup,
        found.identity,
        "2026-01-02T03:04:05+00:00",
        found.size,
        found.block_size,
        extent,
        compression,
    )


async def export_source(
    source: BlockSource,
    directory: Path,
    report: Report = lambda progress: None,
    **change: str | int,
) -> Manifest:
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240 - nothing else runs
    writer = ImageWriter.open(directory, header(source, **change))  # type: ignore[arg-type]
    try:
        return await export_snapshot(source, writer, report)
    finally:
        writer.close()


def export_file(
    path: Path,
    directory: Path,
    report: Report = lambda progress: None,
    **change: str | int,
) -> Manifest:
    async def go() -> Manifest:
        source = FileStore.open(path, read_only=True)
        try:
            return await export_source(source, directory, report, **change)
        finally:
            await source.close()

    return asyncio.run(go())


def content(size: int = MiB, seed: int = 3) -> bytes:
    """Extents in turn: noise, zeros, a text that compresses well."""
    chooser = random.Random(seed)
    kinds = (chooser.randbytes, bytes, lambda count: b"read me. " * count)
    pieces = [kinds[at // EXTENT % 3](EXTENT)[:EXTENT] for at in range(0, size, EXTENT)]
    return b"".join(pieces)[:size]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
