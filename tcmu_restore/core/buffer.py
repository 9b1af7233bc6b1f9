"""A scatter list: the memory that one transfer reads into or writes from.

The parts point into memory that somebody else owns (the kernel's shared data
area, or a bytearray): slicing makes no copy. Only the functions named copy or
compare look at the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

Buffers = tuple[memoryview, ...]
"""Parts in order, each a C-contiguous memoryview of bytes ('B'), none of them empty."""


def buffers_of(data: bytes | bytearray | memoryview) -> Buffers:
    """Return *data* as a scatter list of one part, or of none where it is empty."""
    view = memoryview(data)
    return (view,) if view.nbytes else ()


def total_length(buffers: Buffers) -> int:
    """Return the number of bytes in all parts."""
    return sum(part.nbytes for part in buffers)


def slice_buffers(buffers: Buffers, *, offset: int, length: int) -> Buffers:
    """Return the *length* bytes from byte *offset* on, without copying."""
    if len(buffers) == 1:
        return (buffers[0][offset : offset + length],)
    return tuple(_parts(buffers, offset, length))


def _parts(buffers: Buffers, offset: int, length: int) -> Iterator[memoryview]:
    for part in buffers:
        if length == 0:
            return
        if offset >= part.nbytes:
            offset -= part.nbytes
            continue
        piece = part[offset : offset + length]
        yield piece
        length -= piece.nbytes
        offset = 0


def copy_into(target: Buffers, source: Buffers) -> None:
    """Copy all bytes of *source* to the start of *target*, which is at least as long."""
    position = 0
    for part in source:
        written = 0
        for room in slice_buffers(target, offset=position, length=part.nbytes):
            room[:] = part[written : written + room.nbytes]
            written += room.nbytes
        assert written == part.nbytes
        position += written


def first_difference(left: Buffers, right: Buffers) -> int | None:
    """Return the offset of the first byte that differs, or None. Both have one length."""
    a, b = b"".join(left), b"".join(right)
    assert len(a) == len(b)
    if a == b:
        return None
    return next(index for index, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
