"""The reference store: a bytearray. Its futures are done when they are returned.

Tests compare the other stores with it, and the simulator builds on it. It keeps
the contract of ``base`` to the letter and does nothing else.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from itertools import groupby

from ..core.buffer import Buffers, total_length
from ..core.extent import Extent
from ..errors import SourceUnreachableError
from .base import BlockStore, ExtentKind, SourceGeometry


class MemoryStore(BlockStore):
    """A store in memory; all zeros at first.

    Args:
        size: bytes, a multiple of *block_size*.
        block_size: bytes, a power of two.
        name: for messages; also the identity, unless *identity* is given.
        report_holes: let ``extents`` tell which blocks were never written, or zeroed since.
    """

    __slots__ = ("_geometry", "_is_open", "_name", "_report_holes", "_written", "data")

    def __init__(
        self,
        size: int,
        block_size: int = 512,
        name: str = "memory",
        *,
        identity: str | None = None,
        report_holes: bool = False,
    ) -> None:
        assert block_size & (block_size - 1) == 0
        assert size % block_size == 0
        self.data = bytearray(size)
        self._geometry = SourceGeometry(size, block_size, identity or f"memory.{name}")
        self._name = name
        self._report_holes = report_holes
        self._written = bytearray(size // block_size)
        self._is_open = True

    @property
    def name(self) -> str:
        """For messages."""
        return self._name

    @property
    def geometry(self) -> SourceGeometry:
        """Size, block size and identity."""
        return self._geometry

    @property
    def is_reachable(self) -> bool:
        """True until closed."""
        return self._is_open

    def read_into(self, offset: int, buffers: Buffers) -> Future[None]:
        """Fill *buffers*; the future is done already."""
        future: Future[None] = get_running_loop().create_future()
        if self._is_open:
            self.read_now(offset, buffers)
            future.set_result(None)
        else:
            future.set_exception(self._closed())
        return future

    def read_now(self, offset: int, buffers: Buffers) -> bool:
        """Fill *buffers* at once; False only after ``close``."""
        if not self._is_open:
            return False
        self._check(offset, total_length(buffers))
        view = memoryview(self.data)
        for part in buffers:
            part[:] = view[offset : offset + part.nbytes]
            offset += part.nbytes
        return True

    def write(self, offset: int, buffers: Buffers) -> Future[int]:
        """Write all of *buffers*; the future is done already, with epoch 0."""
        length = total_length(buffers)
        self._check(offset, length)
        if self._is_open:
            self._mark(offset, length, written=1)
            for part in buffers:
                self.data[offset : offset + part.nbytes] = part
                offset += part.nbytes
        return self._done()

    def zero(self, extent: Extent) -> Future[int]:
        """Make *extent* zeros and a hole; the future is done already, with epoch 0."""
        self._check(extent.offset, extent.length)
        if self._is_open:
            self._mark(extent.offset, extent.length, written=0)
            self.data[extent.offset : extent.end] = bytes(extent.length)
        return self._done()

    def flush(self) -> Future[int]:
        """Do nothing: the future is done already, with epoch 0."""
        return self._done()

    def extents(self, extent: Extent) -> Future[list[tuple[ExtentKind, int]]]:
        """Tell the holes of *extent*, if this store was made to."""
        if not self._report_holes or not self._is_open:
            return BlockStore.extents(self, extent)
        self._check(extent.offset, extent.length)
        block_size = self._geometry.block_size
        blocks = self._written[extent.offset // block_size : extent.end // block_size]
        future: Future[list[tuple[ExtentKind, int]]] = get_running_loop().create_future()
        future.set_result(
            [
                (ExtentKind.DATA if written else ExtentKind.ZERO, len(list(run)) * block_size)
                for written, run in groupby(blocks)
            ]
        )
        return future

    async def close(self) -> None:
        """Make every later call fail; the bytes stay in ``data``."""
        self._is_open = False

    def _mark(self, offset: int, length: int, *, written: int) -> None:
        block_size = self._geometry.block_size
        count = length // block_size
        first = offset // block_size
        self._written[first : first + count] = bytes([written]) * count

    def _check(self, offset: int, length: int) -> None:
        assert offset >= 0
        assert offset + length <= self._geometry.size
        assert offset % self._geometry.block_size == 0
        assert length % self._geometry.block_size == 0

    def _done(self) -> Future[int]:
        future: Future[int] = get_running_loop().create_future()
        if self._is_open:
            future.set_result(0)
        else:
            future.set_exception(self._closed())
        return future

    def _closed(self) -> SourceUnreachableError:
        return SourceUnreachableError(self._name, "it was closed")
