"""cffi's view of handler_glue.c, as typed Python. Only for the interpreter inside the plugin."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from tcmu_restore_handler import ffi, lib

from ..core.buffer import Buffers
from .device import Completion, Record

RECORDS_MAX: Final = 64
"""Commands taken a turn of the loop: enough to hide the cost of a turn, and other volumes wait
for no longer than one batch."""

PARTS_MAX: Final = 8192
"""Pieces of memory of one batch; above the 4096 that the glue lets one command have."""

COMPLETIONS_MAX: Final = 256
"""Completions a call; a longer list takes several calls."""

_RECORD: Final = struct.Struct("=QQQIBBBx")
_PART: Final = struct.Struct("=QQ")
_COMPLETION: Final = struct.Struct("=QiI")

assert _RECORD.size == ffi.sizeof("struct glue_record")
assert _PART.size == ffi.sizeof("struct glue_part")
assert _COMPLETION.size == ffi.sizeof("struct glue_completion")


def log(level: int, text: str) -> None:
    """Write to tcmu-runner's log; *level* is syslog's. Any thread."""
    lib.glue_log(level, text.encode("utf-8", "replace"))


class GlueDevice:
    """One open device. All but *attach*, *stop* and *close* belongs to the loop's thread.

    The views that *drain* returns point into memory shared with the kernel; they are good
    until the command is completed and must not be touched after that.
    """

    def __init__(self, dev: Any) -> None:
        self.dev = dev
        self._device = lib.glue_device_create(dev)
        if not self._device:
            raise OSError(ffi.errno, "cannot make a command queue")
        self._records = ffi.new("struct glue_record[]", RECORDS_MAX)
        self._parts = ffi.new("struct glue_part[]", PARTS_MAX)
        self._completions = ffi.new("struct glue_completion[]", COMPLETIONS_MAX)
        self._records_view = memoryview(ffi.buffer(self._records))
        self._parts_view = memoryview(ffi.buffer(self._parts))
        self._completions_view = memoryview(ffi.buffer(self._completions))
        self._area_size: int = lib.glue_device_area_size(self._device)
        area = lib.glue_device_area(self._device)
        self._area_start = int(ffi.cast("uintptr_t", area))
        self._area = memoryview(ffi.buffer(area, self._area_size)) if self._area_size else None

    def attach(self) -> None:
        """Let commands come."""
        lib.glue_device_attach(self._device)

    def fileno(self) -> int:
        """Return the descriptor that is readable while commands wait."""
        descriptor: int = lib.glue_device_fd(self._device)
        return descriptor

    def drain(self) -> list[Record]:
        """Take up to RECORDS_MAX waiting commands; what is left keeps the descriptor readable."""
        count = lib.glue_drain(self._device, self._records, RECORDS_MAX, self._parts, PARTS_MAX)
        parts = _PART.iter_unpack(self._parts_view)
        view = self._view
        records: list[Record] = []
        raw = self._records_view[: count * _RECORD.size]
        for number, offset, length, part_count, kind, fua, _opcode in _RECORD.iter_unpack(raw):
            if part_count == 1:
                buffers: Buffers = (view(*next(parts)),)
            else:
                buffers = tuple([view(*next(parts)) for _ in range(part_count)])
            records.append((number, offset, length, buffers, kind, fua))
        return records

    def _view(self, address: int, length: int) -> memoryview:
        start = address - self._area_start
        if self._area is not None and 0 <= start <= self._area_size - length:
            return self._area[start : start + length]  # five times as fast as a new view
        # compound commands have memory of tcmu-runner's own
        return memoryview(ffi.buffer(ffi.cast("char *", address), length))

    def complete(self, completions: Sequence[Completion]) -> int:
        """Complete (id, status, information) tuples; return how many were refused (CMD-1)."""
        refused = 0
        for start in range(0, len(completions), COMPLETIONS_MAX):
            batch = completions[start : start + COMPLETIONS_MAX]
            position = 0
            for completion in batch:
                _COMPLETION.pack_into(self._completions_view, position, *completion)
                position += _COMPLETION.size
            refused += lib.glue_complete(self._device, self._completions, len(batch))
        return refused

    def stop(self) -> None:
        """Answer BUSY to what comes from now on; what waits still waits."""
        lib.glue_device_stop(self._device)

    def close_descriptor(self) -> None:
        """Close the descriptor; nobody may poll it any more."""
        lib.glue_device_close_fd(self._device)

    def close(self) -> int:
        """Detach and free; return how many commands were never completed."""
        count: int = lib.glue_device_close(self._device)
        return count
