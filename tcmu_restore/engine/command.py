"""One SCSI data command, as the handler hands it to a volume engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from ..core.buffer import Buffers
from ..errors import RestoreError


class CommandKind(IntEnum):
    """What to do. The numbers are shared with handler_glue.c."""

    READ = 1
    WRITE = 2
    FLUSH = 3
    UNMAP = 4
    WRITE_SAME = 5
    COMPARE_AND_WRITE = 6


@dataclass(slots=True, eq=False)
class Command:
    """A command that the engine owns until it has called *complete*, exactly once (CMD-1).

    *offset* and *length* are bytes of the volume. *buffers* is what to fill (READ), what to write
    (WRITE, *length* bytes), the one block to repeat (WRITE_SAME), or the compare data followed by
    the write data (COMPARE_AND_WRITE, twice *length* bytes); empty for FLUSH and UNMAP. *fua*: the
    written bytes are durable before completion. ``complete(None)`` is GOOD, an exception is
    translated by the handler's status table. It must not be called with a lock held, and the
    buffers must not be touched afterwards.
    """

    kind: CommandKind
    offset: int
    length: int
    buffers: Buffers
    fua: bool
    complete: Callable[[RestoreError | None], None]
