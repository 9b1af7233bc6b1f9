"""Asks a LUN what it is, once after each login."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from dataclasses import dataclass
from typing import Final

from ..errors import (
    BlockSizeMismatchError,
    IdentityMismatchError,
    SizeMismatchError,
    SourceUnreachableError,
)
from ..units import MiB
from . import scsi
from .base import SourceGeometry
from .iscsi_session import Command, IscsiSession
from .libiscsi import DATA_IN, NO_DATA
from .scsi import BlockLimits, Outcome, Verdict

TRANSFER_MAX: Final = 1 * MiB
"""Bytes of one command, even if the LUN takes more: beyond it a transfer only blocks others."""

ZERO_MAX: Final = 64 * MiB
"""Bytes of one WRITE SAME, even if the LUN takes more: it must end before the command's deadline
on a device that writes them."""

TRIES_MAX: Final = 12
"""Of one question: a fresh session may report several unit attentions before it answers."""

_RETRY_SECONDS: Final = 0.1
_ANSWER_LENGTH: Final = 252  # enough for every page asked for; a multiple of 4, in one byte


@dataclass(frozen=True, slots=True)
class Lun:
    """What a LUN is and takes. Sizes are bytes."""

    geometry: SourceGeometry
    transfer_max: int
    zero_max: int
    unmapped_is_zero: bool
    """Deallocated blocks read as zeros, so GET LBA STATUS tells where nothing need be read."""

    unmap_granularity: int
    """WRITE SAME may unmap extents aligned to this; 0 when it must not unmap at all."""


class QueryError(Exception):
    """A question was answered with something else than the answer."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(str(outcome))
        self.outcome = outcome


async def query(session: IscsiSession, cdb: bytes, length: int) -> bytes:
    """Send a command that returns up to *length* bytes; retry what is only passing.

    Raises:
        QueryError: the device refused it, or the session was lost.
    """
    for attempt in range(1, TRIES_MAX + 1):
        answer = bytearray(length)
        outcome = await _execute(session, cdb, answer)
        if outcome.status == scsi.STATUS_GOOD:
            return bytes(answer[: max(0, length - outcome.residual)])
        verdict = scsi.judge(outcome)
        if attempt == TRIES_MAX or verdict not in (Verdict.RETRY_NOW, Verdict.RETRY_LATER):
            break
        if verdict is Verdict.RETRY_LATER:
            await asyncio.sleep(_RETRY_SECONDS)
    raise QueryError(outcome)


async def examine(session: IscsiSession, name: str, fallback_identity: str) -> Lun:
    """Ask the LUN of a fresh session what it is.

    Args:
        fallback_identity: the identity of a LUN that names itself in no way.

    Raises:
        SourceUnreachableError: it is no disk, is not there, or did not answer.
    """
    try:
        inquiry = await query(session, scsi.encode_inquiry(_ANSWER_LENGTH), _ANSWER_LENGTH)
        scsi.check_is_disk(inquiry)
        await query(session, bytes(6), 0)  # TEST UNIT READY
        answer = await query(session, scsi.encode_read_capacity(32), 32)
        capacity = scsi.parse_capacity(answer)
        pages = await _pages(session)
    except (QueryError, ValueError) as error:
        raise session.loss or SourceUnreachableError(name, str(error)) from error
    limits = scsi.parse_block_limits(pages[scsi.PAGE_BLOCK_LIMITS])
    identity = scsi.identity_of(
        pages[scsi.PAGE_IDENTIFICATION], pages[scsi.PAGE_SERIAL], scsi.vendor_product(inquiry)
    )
    return _lun(capacity, limits, pages[scsi.PAGE_PROVISIONING], identity or fallback_identity)


def check_same(
    name: str, geometry: SourceGeometry, expected: SourceGeometry, *, may_grow: bool = False
) -> None:
    """Raise unless *geometry* is that of the *expected* thing, which *may_grow* meanwhile.

    Raises:
        IdentityMismatchError, SizeMismatchError, BlockSizeMismatchError: in this order.
    """
    if geometry.identity != expected.identity:
        raise IdentityMismatchError(name, geometry.identity, expected.identity)
    has_grown = may_grow and geometry.size > expected.size
    if geometry.size != expected.size and not has_grown:
        raise SizeMismatchError(name, geometry.size, expected.size)
    if geometry.block_size != expected.block_size:
        raise BlockSizeMismatchError(name, geometry.block_size, expected.block_size)


def _lun(capacity: scsi.Capacity, limits: BlockLimits, provisioning: bytes, identity: str) -> Lun:
    block_size = capacity.block_size
    may_unmap = (
        capacity.can_unmap
        and capacity.unmapped_is_zero
        and limits.unmap_alignment == 0
        and scsi.can_unmap_with_write_same(provisioning)
    )
    return Lun(
        SourceGeometry(capacity.size, block_size, identity),
        _limit(limits.transfer_max, TRANSFER_MAX // block_size) * block_size,
        _limit(limits.write_same_max, ZERO_MAX // block_size) * block_size,
        capacity.can_unmap and capacity.unmapped_is_zero,
        max(limits.unmap_granularity, 1) * block_size if may_unmap else 0,
    )


def _limit(told: int, ours: int) -> int:
    return min(told, ours) if told else ours


async def _pages(session: IscsiSession) -> dict[int, bytes]:
    """Return the VPD pages of interest, empty where the device has none."""
    supported = scsi.parse_supported_pages(await _page(session, scsi.PAGE_SUPPORTED))
    return {
        page: await _page(session, page) if page in supported else b""
        for page in (
            scsi.PAGE_SERIAL,
            scsi.PAGE_IDENTIFICATION,
            scsi.PAGE_BLOCK_LIMITS,
            scsi.PAGE_PROVISIONING,
        )
    }


async def _page(session: IscsiSession, page: int) -> bytes:
    try:
        return await query(session, scsi.encode_inquiry(_ANSWER_LENGTH, page), _ANSWER_LENGTH)
    except QueryError as error:
        if scsi.judge(error.outcome) is Verdict.UNSUPPORTED:
            return b""
        raise


async def _execute(session: IscsiSession, cdb: bytes, answer: bytearray) -> Outcome:
    if session.is_lost:
        return scsi.LOST
    future = get_running_loop().create_future()

    def on_end(_: Command, outcome: Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    buffers = (memoryview(answer),) if answer else ()
    direction = DATA_IN if answer else NO_DATA
    session.submit(Command(cdb, direction, buffers, len(answer), on_end))
    outcome: Outcome = await future
    return outcome
