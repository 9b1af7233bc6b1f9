"""Makes a read-only image pass for a store: what is written to memory is exported before a read."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from tcmu_restore.core.buffer import Buffers
from tcmu_restore.core.extent import Extent
from tcmu_restore.sources.base import BlockStore, ExtentKind, SourceGeometry
from tcmu_restore.sources.memory import MemoryStore
from tcmu_restore.sources.snapshot_image import SnapshotImage
from tests.transfer.images import export_source

_T = TypeVar("_T")


class RewrittenImage(BlockStore):
    """Every read comes from a SnapshotImage; a write only makes the next read export anew."""

    def __init__(self, folder: Path, size: int, *, compression: str) -> None:
        self._folder = folder
        self._compression = compression
        self._memory = MemoryStore(size)
        self._image: SnapshotImage | None = None
        self._is_closed = False
        self._old: list[SnapshotImage] = []
        self._count = 0
        self._export = asyncio.Lock()

    @property
    def name(self) -> str:
        return "an image"

    @property
    def geometry(self) -> SourceGeometry:
        return self._memory.geometry if self._image is None else self._image.geometry

    @property
    def is_reachable(self) -> bool:
        return self._memory.is_reachable

    def read_into(self, offset: int, buffers: Buffers) -> Future[None]:
        return self._on_image(lambda image: image.read_into(offset, buffers))

    def extents(self, extent: Extent) -> Future[list[tuple[ExtentKind, int]]]:
        return self._on_image(lambda image: image.extents(extent))

    def write(self, offset: int, buffers: Buffers) -> Future[int]:
        self._forget()
        return self._memory.write(offset, buffers)

    def zero(self, extent: Extent) -> Future[int]:
        self._forget()
        return self._memory.zero(extent)

    def flush(self) -> Future[int]:
        return self._memory.flush()

    async def close(self) -> None:
        await self._exported()
        self._is_closed = True
        await self._memory.close()
        for image in [*self._old, self._image]:
            if image is not None:
                await image.close()

    def _forget(self) -> None:
        if self._image is not None and not self._is_closed:
            self._old.append(self._image)
            self._image = None

    def _on_image(self, call: Callable[[SnapshotImage], Awaitable[_T]]) -> Future[_T]:
        async def go() -> _T:
            return await call(await self._exported())

        return asyncio.ensure_future(go())

    async def _exported(self) -> SnapshotImage:
        async with self._export:
            if self._image is None:
                self._count += 1
                directory = self._folder / str(self._count)
                await export_source(self._memory, directory, compression=self._compression)
                self._image = SnapshotImage.open(str(directory))
            return self._image
