"""Copies a snapshot to a directory, extent by extent; what is zero is left out.

Several extents are read and packed at once; they are stored in order. An extent that was read twice
in two runs is read from the same static snapshot, so it is the same.
"""

from __future__ import annotations

import os
from asyncio import Task, create_task, gather
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ..core.buffer import buffers_of
from ..core.extent import Extent
from ..errors import ExportRefusedError
from ..sources.base import BlockSource, ExtentKind
from ..sources.image_extent import PackedExtent, pack
from ..sources.image_manifest import ImageHeader, Manifest
from ..sources.io_thread import IoThreads
from ..units import GiB, format_size
from .image_writer import ImageWriter

READS: Final = 8
"""Extents on their way at once: 8 MiB fill 1 Gbit/s at 60 ms."""

PACK_THREADS: Final = min(4, os.cpu_count() or 1)

MAP_WINDOW: Final = 1 * GiB
"""Bytes whose holes are asked for at once."""


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export is. Sizes are bytes."""

    done: int
    """Looked at, or taken up from an earlier run."""
    total: int
    """What is not known to be a hole."""
    stored: int


Report = Callable[[ExportProgress], None]


async def export_snapshot(
    source: BlockSource, writer: ImageWriter, report: Report, *, check_space: bool = True
) -> Manifest:
    """Copy *source* to *writer* from where it is; return the manifest of the complete image.

    Raises:
        ExportRefusedError: the directory has too little room.
        SourceError: the snapshot could not be read, or the directory not be written; what was
            stored stays, and a later run goes on.
    """
    export = _Export(source, writer, report, await data_extents(source, writer.header))
    if check_space:
        export.check_space()
    try:
        await export.copy()
        return await export.in_writer(writer.finish)
    finally:
        await export.close()


async def data_extents(source: BlockSource, header: ImageHeader) -> list[range]:
    """Return the numbers of the extents that may hold data, ascending, neighbours joined."""
    found: list[range] = []
    for window in Extent(0, header.size).pieces(MAP_WINDOW):
        position = window.offset
        for kind, length in await source.extents(window):
            if kind is ExtentKind.DATA:
                first = position // header.extent_size
                stop = -(-(position + length) // header.extent_size)
                if found and first <= found[-1].stop:
                    found[-1] = range(found[-1].start, stop)
                else:
                    found.append(range(first, stop))
            position += length
    return found


class _Export:
    def __init__(
        self, source: BlockSource, writer: ImageWriter, report: Report, ranges: list[range]
    ) -> None:
        self._source = source
        self._writer = writer
        self._report = report
        self._ranges = ranges
        self._total = sum(self._length(numbers) for numbers in ranges)
        before = (range(numbers.start, min(numbers.stop, self._next)) for numbers in ranges)
        self._done = sum(self._length(numbers) for numbers in before if numbers)
        self._packing = IoThreads("export-pack", PACK_THREADS)
        self._writing = IoThreads("export-write", 1)

    @property
    def _next(self) -> int:
        return self._writer.next_extent

    def _length(self, numbers: range) -> int:
        header = self._writer.header
        return min(numbers.stop * header.extent_size, header.size) - (
            numbers.start * header.extent_size
        )

    def check_space(self) -> None:
        """Raise ExportRefusedError unless all of the rest has room even if nothing gets smaller."""
        needed, free = self._total - self._done, self._writer.free_bytes
        if needed > free:
            reason = (
                f"up to {format_size(needed)} are still to be stored and {format_size(free)} are "
                "free; if compression or zeros make it smaller, use --no-space-check"
            )
            raise ExportRefusedError(str(self._writer.path), reason)

    async def copy(self) -> None:
        """Copy every extent from the writer's next one on."""
        self._tell()
        pending: deque[tuple[int, Task[PackedExtent | None]]] = deque()
        try:
            for number in self._numbers():
                pending.append((number, create_task(self._packed(number))))
                if len(pending) >= READS:
                    await self._store(*pending.popleft())
            while pending:
                await self._store(*pending.popleft())
        finally:
            await gather(*(task for _, task in pending), return_exceptions=True)

    def _numbers(self) -> Iterator[int]:
        first = self._next
        for numbers in self._ranges:
            yield from range(max(numbers.start, first), numbers.stop)

    async def _packed(self, number: int) -> PackedExtent | None:
        header = self._writer.header
        data = bytearray(header.extent_length(number))
        await self._source.read_into(number * header.extent_size, buffers_of(data))
        compress = header.compression == "zstd"
        return await self._packing.submit(_pack, data, compress)

    async def _store(self, number: int, packed: Awaitable[PackedExtent | None]) -> None:
        extent = await packed
        if extent is not None:
            await self._writing.submit(self._writer.append, number, extent)
        self._done += self._writer.header.extent_length(number)
        self._tell()

    def _tell(self) -> None:
        self._report(ExportProgress(self._done, self._total, self._writer.stored_bytes))

    async def in_writer(self, function: Callable[[], Manifest]) -> Manifest:
        """Run a blocking call of the writer beside the loop."""
        return await self._writing.submit(function)

    async def close(self) -> None:
        """Wait for the threads."""
        await self._packing.close()
        await self._writing.close()


def _pack(data: bytearray, compress: bool) -> PackedExtent | None:
    return pack(data, compress=compress)
