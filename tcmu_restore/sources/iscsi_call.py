"""What a store keeps about a call and about each command it became. No I/O here."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final

from ..core.buffer import Buffers, slice_buffers
from ..core.extent import Extent
from ..errors import (
    SourceBusyError,
    SourceError,
    SourceFlushError,
    SourceReadError,
    SourceUnreachableError,
    SourceWriteError,
)
from ..units import MiB
from . import scsi
from .iscsi_lun import Lun
from .iscsi_session import Command, IscsiSession
from .scsi import Outcome, Verdict

PARTS_MAX: Final = 1024
"""Parts of one command's scatter list: libiscsi hands them to readv(2). Source: IOV_MAX."""

_EPOCH_NONE: Final = 1 << 62
_ZEROS: Final = memoryview(bytes(1 * MiB))


class CallKind(Enum):
    """What a caller asked for."""

    READ = "read"
    WRITE = "write"
    ZERO = "zero"
    FLUSH = "flush"


_FAILURES: Final[dict[CallKind, type[SourceError]]] = {
    CallKind.READ: SourceReadError,
    CallKind.WRITE: SourceWriteError,
    CallKind.ZERO: SourceWriteError,
    CallKind.FLUSH: SourceFlushError,
}


class Call:
    """One call of a caller: done when *left* commands have ended."""

    __slots__ = ("epoch", "error", "future", "kind", "left")

    def __init__(self, future: Future[Any], kind: CallKind, left: int) -> None:
        self.future = future
        self.kind = kind
        self.left = left
        self.epoch = _EPOCH_NONE
        """The oldest epoch in which a command of this call was sent."""
        self.error: SourceError | None = None

    def end_one(self, epoch: int) -> None:
        """Note that one command has ended; with the last one the call has.

        Args:
            epoch: the store's present one.
        """
        self.left -= 1
        if self.left or self.future.done():  # done: its caller cancelled it
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        elif self.kind is CallKind.READ:
            self.future.set_result(None)
        else:
            self.future.set_result(epoch if self.kind is CallKind.FLUSH else self.epoch)


class DataCommand(Command):
    """A command of a call, through all its tries."""

    __slots__ = ("call", "epoch", "first_started", "replace", "session", "tries")

    def __init__(  # noqa: PLR0913, PLR0917 - keywords would cost on the data path
        self,
        cdb: bytes,
        direction: int,
        buffers: Buffers,
        length: int,
        on_end: Callable[..., None],
        call: Call,
        replace: Callable[[], bool] | None = None,
    ) -> None:
        self.cdb = cdb
        self.direction = direction
        self.buffers = buffers
        self.length = length
        self.on_end = on_end
        self.keep = None
        self.call = call
        self.replace = replace
        """Sends other commands instead when the device does not know this one; False if none."""
        self.session: IscsiSession | None = None
        self.epoch = 0
        self.tries = 0
        self.first_started = 0.0


def error_of(kind: CallKind, name: str, outcome: Outcome, verdict: Verdict) -> SourceError:
    """Return what a call of *kind* fails with, after retrying was no help."""
    if verdict in (Verdict.LOST, Verdict.REEXAMINE):
        return SourceUnreachableError(name, "the session was lost")
    if verdict in (Verdict.RETRY_NOW, Verdict.RETRY_LATER, Verdict.BUSY):
        return SourceBusyError(name, str(outcome))
    return _FAILURES[kind](name, str(outcome))


def plan_pieces(buffers: Buffers, length: int, lun: Lun) -> Iterator[tuple[int, Buffers]]:
    """Cut a transfer into what *lun* takes in one command; yield (length, parts)."""
    position = 0
    while position < length:
        size = min(lun.transfer_max, length - position)
        parts = slice_buffers(buffers, offset=position, length=size)
        while len(parts) > PARTS_MAX:
            size = size // 2 // lun.geometry.block_size * lun.geometry.block_size
            assert size > 0, "more parts than bytes can be in one block"
            parts = slice_buffers(buffers, offset=position, length=size)
        yield size, parts
        position += size


def plan_zero(
    extent: Extent, lun: Lun, *, may_unmap: bool, may_write_same: bool
) -> Iterator[tuple[bytes, Buffers, int, Extent]]:
    """Cut zeroing *extent* into commands; yield (CDB, data, bytes of data, what it covers)."""
    block_size = lun.geometry.block_size
    if not may_write_same:
        for piece in extent.pieces(min(lun.transfer_max, _ZEROS.nbytes)):
            cdb = scsi.encode_cdb_16(
                scsi.WRITE_16, piece.offset // block_size, piece.length // block_size
            )
            yield cdb, (_ZEROS[: piece.length],), piece.length, piece
        return
    for piece in extent.pieces(lun.zero_max):
        grain = lun.unmap_granularity
        is_aligned = grain > 0 and piece.offset % grain == 0 and piece.length % grain == 0
        flags = scsi.WRITE_SAME_UNMAP if may_unmap and is_aligned else 0
        first, count = piece.offset // block_size, piece.length // block_size
        cdb = scsi.encode_cdb_16(scsi.WRITE_SAME_16, first, count, flags)
        yield cdb, (_ZEROS[:block_size],), block_size, piece
