"""Tells which parts of a LUN are deallocated, so that they need not be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..core.extent import Extent
from .base import ExtentKind
from .iscsi_lun import Lun, query
from .iscsi_session import IscsiSession
from .scsi import encode_get_lba_status, parse_lba_status

QUERIES_MAX: Final = 64
"""For one extent. What is not known by then is read: a fragmented LUN gains little anyway."""

_ANSWER_LENGTH: Final = 8 + 16 * 255


async def lun_extents(
    session: IscsiSession, lun: Lun, extent: Extent
) -> list[tuple[ExtentKind, int]]:
    """Return (kind, bytes), in order, covering *extent* exactly.

    Raises:
        QueryError: the device does not answer GET LBA STATUS.
    """
    assert lun.unmapped_is_zero
    block_size = lun.geometry.block_size
    found: list[tuple[ExtentKind, int]] = []
    position = extent.offset
    for _ in range(QUERIES_MAX):
        cdb = encode_get_lba_status(position // block_size, _ANSWER_LENGTH)
        answer = parse_lba_status(await query(session, cdb, _ANSWER_LENGTH))
        before = position
        for kind, end in _clip(answer, block_size, Extent(position, extent.end - position)):
            found.append((kind, end - position))
            position = end
        if position in (before, extent.end):
            break
    if position < extent.end:
        found.append((ExtentKind.DATA, extent.end - position))
    return _joined(found)


def _clip(
    answer: list[tuple[int, int, bool]], block_size: int, extent: Extent
) -> Iterator[tuple[ExtentKind, int]]:
    """Yield (kind, end offset) for the part of *answer* that continues *extent* without a gap."""
    position = extent.offset
    for lba, count, is_deallocated in answer:
        end = min((lba + count) * block_size, extent.end)
        if lba * block_size > position or end <= position:
            return
        yield (ExtentKind.ZERO if is_deallocated else ExtentKind.DATA), end
        position = end


def _joined(parts: list[tuple[ExtentKind, int]]) -> list[tuple[ExtentKind, int]]:
    joined: list[tuple[ExtentKind, int]] = []
    for kind, length in parts:
        if joined and joined[-1][0] is kind:
            joined[-1] = (kind, joined[-1][1] + length)
        else:
            joined.append((kind, length))
    return joined
