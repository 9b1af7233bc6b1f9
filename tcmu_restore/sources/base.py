"""The contract every block source keeps. Read this before writing a source.

Offsets and lengths are bytes. Every call names its offset: a source has no
position, so calls may overlap in time. A call moves all of its bytes or fails;
there are no short reads. The caller keeps to the range and the alignment of
``geometry``, and a source may assert both; a source cuts what is longer than
its peer takes in one command by itself.

Data calls return an ``asyncio.Future`` at once (no coroutine: the data path
makes no task per transfer). The memory passed in belongs to the source until
that future is done. Futures fail with a ``SourceError`` and never with
anything else; a future that its caller cancels still keeps the memory until
the transfer has really ended, so callers wait instead of cancelling.

Everything is called from the one thread that runs the event loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import Future, get_running_loop
from dataclasses import dataclass
from enum import Enum

from ..core.buffer import Buffers
from ..core.extent import Extent


class ExtentKind(Enum):
    """What a source knows about a range without reading it."""

    DATA = "data"
    ZERO = "zero"


@dataclass(frozen=True, slots=True)
class SourceGeometry:
    """What a source is; asked once, right after it is opened."""

    size: int
    """Bytes."""

    block_size: int
    """Bytes; a power of two. Offsets and lengths of every call are multiples of it."""

    identity: str
    """Names the thing itself, not the way to it: ``naa.…``, ``eui.…`` or ``t10.…``, with
    ``/serial.…``, of VPD pages 0x83 and 0x80 for a LUN; device-mapper UUID, WWID, serial or device
    number for a disk; device and inode number for a file. Equal identities are one thing."""


class BlockSource(ABC):
    """Something that bytes can be read from. Never written to."""

    __slots__ = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """For messages: a path, or portal, IQN and LUN. Holds no secret."""

    @property
    @abstractmethod
    def geometry(self) -> SourceGeometry:
        """Size, block size and identity. Raises SourceUnreachableError while not yet known."""

    @property
    @abstractmethod
    def is_reachable(self) -> bool:
        """Whether a call made now has a chance. False lets callers choose another source."""

    @abstractmethod
    def read_into(self, offset: int, buffers: Buffers) -> Future[None]:
        """Fill *buffers* with the bytes that start at *offset*.

        The future fails with SourceUnreachableError or SourceBusyError (trying again may work) or
        SourceReadError (it won't). After a failure the contents of *buffers* are undefined.

        Source: SBC-4 READ (16); preadv(2).
        """

    def read_now(self, offset: int, buffers: Buffers) -> bool:
        """Do as ``read_into`` without blocking, or return False and leave it to ``read_into``.

        False may have changed *buffers*. Raises nothing.

        Source: preadv2(2), RWF_NOWAIT.
        """
        del offset, buffers
        return False

    def extents(self, extent: Extent) -> Future[list[tuple[ExtentKind, int]]]:
        """Tell which parts of *extent* are known to be zero, without moving data.

        The future's result is a list of (kind, length in bytes), in order, covering *extent*
        exactly. A source that knows nothing says DATA for all of it; a failure to find out is
        answered the same way, never raised.

        Source: SBC-4 GET LBA STATUS; lseek(2) SEEK_DATA.
        """
        future: Future[list[tuple[ExtentKind, int]]] = get_running_loop().create_future()
        future.set_result([(ExtentKind.DATA, extent.length)])
        return future

    @abstractmethod
    async def close(self) -> None:
        """Release everything; calls still in flight fail first. Never raises; twice is fine."""


class BlockStore(BlockSource):
    """A source that can also be written.

    ``write``, ``zero`` and ``flush`` give an *epoch* as their future's result: a number that grows
    each time the store may have forgotten bytes it acknowledged but had not flushed (a lost
    session, a power-on or reset unit attention). Bytes written in an epoch below the one that a
    later flush answers are not known to be durable (rule MIR-2). A local disk stays in epoch 0.
    """

    __slots__ = ()

    @abstractmethod
    def write(self, offset: int, buffers: Buffers) -> Future[int]:
        """Write all of *buffers* from *offset* on; they may still be in a volatile cache then.

        The future fails with SourceUnreachableError or SourceBusyError (the bytes may or may not
        have been written; writing them again is right) or SourceWriteError (trying again won't
        help).

        Source: SBC-4 WRITE (16); pwritev(2).
        """

    @abstractmethod
    def zero(self, extent: Extent) -> Future[int]:
        """Make *extent* read as zeros, freeing space where the device can do it safely.

        Fails as ``write`` does. Source: SBC-4 WRITE SAME (16); fallocate(2) PUNCH_HOLE/ZERO_RANGE.
        """

    @abstractmethod
    def flush(self) -> Future[int]:
        """Be done only when every write that completed before this call is durable.

        Fails with SourceUnreachableError, SourceBusyError or SourceFlushError; what the failed
        flush covered is not to be trusted as durable, also if a later flush succeeds.

        Source: SBC-4 SYNCHRONIZE CACHE (16); fdatasync(2).
        """
