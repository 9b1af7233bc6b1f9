"""A LUN behind iSCSI, with as many sessions as asked for, kept up in the background.

A call becomes one or several SCSI commands; its future is done when the last of
them has ended and libiscsi has let go of the memory. Commands wait, first in
first out, while every session has its queue depth in flight. What is passing
(busy, unit attention) is retried here, and reads are moved to another session;
nothing else is. Whether to wait for a lost peer is the caller's decision.

Epoch: grows with every lost session and every reset unit attention (rule MIR-2).
A write answers the epoch in which it was *sent*, a flush the one in which it
*ended*: both err on the safe side.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from asyncio import Future, get_running_loop
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..core.buffer import Buffers, total_length
from ..core.extent import Extent
from ..errors import BadSettingError, RestoreError, SourceError, SourceUnreachableError
from ..options import IscsiOptions
from . import scsi
from .base import BlockStore, ExtentKind, SourceGeometry
from .credentials import Credentials
from .iscsi_call import PARTS_MAX, Call, CallKind, DataCommand, error_of, plan_pieces, plan_zero
from .iscsi_extents import lun_extents
from .iscsi_link import IscsiLink
from .iscsi_lun import Lun, QueryError
from .iscsi_queue import CommandQueue
from .iscsi_session import IscsiSession
from .iscsi_url import IscsiUrl
from .libiscsi import DATA_IN, DATA_OUT, NO_DATA, ContextSettings
from .scsi import READ_16, WRITE_16, Outcome, Verdict, encode_cdb_16, judge
from .statistics import SourceStatistics

_INITIATOR: Final = re.compile(r"(iqn|eui|naa)\.[A-Za-z0-9._:-]{1,219}", re.ASCII)


class IscsiStore(BlockStore):
    """A LUN. Make it and ``start`` it in the loop's thread; it may be reachable hours later.

    Args:
        url: what ``parse_iscsi_url`` gave.
        initiator: this host's IQN, as in the target's ACL.
        credentials: for CHAP; None logs in without.
        expected: what the LUN must be. Another one is refused at every login, and counts as
            unreachable. None takes the first LUN that is seen, and insists on it from then on.
        may_grow: a larger LUN than expected is the same one; *geometry* is what it is then.
        read_only: never send a command that changes the LUN (a snapshot).
        instance: names this user of the LUN on this initiator, the same after a restart: a store
            then takes over the sessions of an earlier one, whose commands the target ends first.
            None never takes over.
        on_change: called from the loop with ``is_reachable`` when it has changed.
        on_epoch: called with each new epoch (see ``base``) before any answer of that epoch is
            passed on; not from within a call of this object.

    Raises:
        BadSettingError: *initiator* is not an iSCSI name.
    """

    __slots__ = (
        "_block_mask",
        "_block_shift",
        "_can_list",
        "_is_closed",
        "_links",
        "_loop",
        "_lun",
        "_may_unmap",
        "_may_write_same",
        "_name",
        "_on_change",
        "_on_end",
        "_queue",
        "_read_only",
        "_transfer_max",
        "_waiters",
        "expected",
        "last_error",
        "may_grow",
    )

    def __init__(  # noqa: PLR0913 - keyword-only settings
        self,
        url: IscsiUrl,
        *,
        initiator: str,
        options: IscsiOptions | None = None,
        credentials: Credentials | None = None,
        expected: SourceGeometry | None = None,
        may_grow: bool = False,
        read_only: bool = False,
        instance: str | None = None,
        on_change: Callable[[bool], None] | None = None,
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        if not _INITIATOR.fullmatch(initiator):
            raise BadSettingError("initiator", initiator, "it is not an iSCSI name (iqn.…)")
        self._loop = get_running_loop()
        self._name = str(url)
        self._read_only = read_only
        self._on_change = on_change
        self._lun: Lun | None = None
        self._transfer_max = self._block_mask = self._block_shift = 0
        self._waiters: list[Future[None]] = []
        self._is_closed = False
        self._can_list = self._may_unmap = self._may_write_same = True
        self.expected = expected
        self.may_grow = may_grow
        self.last_error: RestoreError | None = None
        """Why the LUN is unreachable; None while it is reachable."""
        options = options or IscsiOptions()
        self._queue = CommandQueue(self._name, options, self._unreachable)
        if on_epoch is not None:
            self._queue.on_epoch = on_epoch
        self._on_end = self._queue.on_command_end  # bound once, not per command
        self._links = [
            IscsiLink(self, url, settings, options)
            for settings in _context_settings(url, initiator, options, credentials, instance)
        ]

    # --- what it is ----------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The URL; it holds no secret."""
        return self._name

    @property
    def geometry(self) -> SourceGeometry:
        """What was expected or seen. Raises SourceUnreachableError while neither is known."""
        if self.expected is None:
            raise self._unreachable()
        return self.expected

    @property
    def is_reachable(self) -> bool:
        """Whether a session is up, and no write of a lost one may still be carried out."""
        return self._queue.is_usable

    @property
    def epoch(self) -> int:
        """Grows when the LUN may have forgotten what was not flushed (rule MIR-2)."""
        return self._queue.epoch

    @property
    def statistics(self) -> SourceStatistics:
        """Counters since the store was made."""
        return self._queue.statistics

    @property
    def session_count(self) -> int:
        """Sessions that are up."""
        return len(self._queue.sessions)

    # --- coming and going ----------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect in the background. Returns at once, whatever the peer does.

        Does nothing while it has been started and neither disconnected nor closed.
        """
        for link in self._links:
            link.start()

    async def wait_ready(self, timeout_seconds: float) -> None:
        """Wait until the LUN is reachable.

        Raises:
            SourceLoginError, IdentityMismatchError, SizeMismatchError, BlockSizeMismatchError: at
                once; the store goes on trying in the background.
            SourceUnreachableError: after *timeout_seconds*, with the latest reason; three times
                that where the peer has answered a login and is being asked what it is.
        """
        if self._queue.is_usable:
            return
        if self.last_error is not None and not self.last_error.retryable:
            raise self.last_error
        waiter: Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await asyncio.wait((waiter,), timeout=timeout_seconds)
            if not waiter.done() and any(link.session is not None for link in self._links):
                await asyncio.wait((waiter,), timeout=2 * timeout_seconds)
            if not waiter.done():
                raise self._unreachable()
            waiter.result()
        finally:
            self._waiters.remove(waiter)

    async def disconnect(self) -> None:
        """Log out, end what is in flight, and stay away until ``start``. Never raises."""
        await asyncio.gather(*(link.stop() for link in self._links))

    async def close(self) -> None:
        """Log out and end what is in flight. Never raises; twice is fine."""
        self._is_closed = True
        self._update()
        await self.disconnect()

    # --- calls ---------------------------------------------------------------------------

    def read_into(self, offset: int, buffers: Buffers) -> Future[None]:
        """Fill *buffers*. Source: SBC-4 READ (16)."""
        return self._transfer(CallKind.READ, READ_16, DATA_IN, offset, buffers)

    def write(self, offset: int, buffers: Buffers) -> Future[int]:
        """Write *buffers*. Source: SBC-4 WRITE (16)."""
        if self._read_only:
            return self._refuse(CallKind.WRITE)
        return self._transfer(CallKind.WRITE, WRITE_16, DATA_OUT, offset, buffers)

    def zero(self, extent: Extent) -> Future[int]:
        """Zero *extent*; unmaps where that is sure to read as zeros. Source: SBC-4 WRITE SAME."""
        if self._read_only:
            return self._refuse(CallKind.ZERO)
        future: Future[int] = self._loop.create_future()
        if self._queue.is_usable:
            self._check(extent.offset, extent.length)
            self._send_zero(Call(future, CallKind.ZERO, 0), extent)
        else:
            future.set_exception(self._unreachable())
        return future

    def flush(self) -> Future[int]:
        """Flush the LUN's cache, on every session. Source: SBC-4 SYNCHRONIZE CACHE (16)."""
        if self._read_only:
            return self._refuse(CallKind.FLUSH)
        future: Future[int] = self._loop.create_future()
        if self._queue.is_usable:
            call = Call(future, CallKind.FLUSH, len(self._queue.sessions))
            cdb = encode_cdb_16(scsi.SYNCHRONIZE_CACHE_16, 0, 0)  # 0 blocks: all of them
            for session in self._queue.sessions:
                self._queue.send(session, DataCommand(cdb, NO_DATA, (), 0, self._on_end, call))
        else:
            future.set_exception(self._unreachable())
        return future

    def extents(self, extent: Extent) -> Future[list[tuple[ExtentKind, int]]]:
        """Tell what is deallocated, where that means zero. Source: SBC-4 GET LBA STATUS."""
        lun = self._lun
        if lun is None or not (self._queue.is_usable and lun.unmapped_is_zero and self._can_list):
            return BlockStore.extents(self, extent)
        self._check(extent.offset, extent.length)
        return self._loop.create_task(self._list(lun, extent))

    # --- from calls to commands ----------------------------------------------------------

    def _transfer(
        self, kind: CallKind, opcode: int, direction: int, offset: int, buffers: Buffers
    ) -> Future[Any]:
        future: Future[Any] = self._loop.create_future()
        if not self._queue.is_usable:
            future.set_exception(self._unreachable())
            return future
        length = total_length(buffers)
        self._check(offset, length)
        call = Call(future, kind, 1)
        shift = self._block_shift
        if length <= self._transfer_max and len(buffers) <= PARTS_MAX:
            cdb = encode_cdb_16(opcode, offset >> shift, length >> shift)
            self._queue.dispatch(DataCommand(cdb, direction, buffers, length, self._on_end, call))
            return future
        assert self._lun is not None
        pieces = list(plan_pieces(buffers, length, self._lun))
        call.left = len(pieces)
        for size, parts in pieces:
            cdb = encode_cdb_16(opcode, offset >> shift, size >> shift)
            self._queue.dispatch(DataCommand(cdb, direction, parts, size, self._on_end, call))
            offset += size
        return future

    def _send_zero(self, call: Call, extent: Extent) -> None:
        """Add the commands that zero *extent* to *call*."""
        assert self._lun is not None
        plans = list(
            plan_zero(
                extent, self._lun, may_unmap=self._may_unmap, may_write_same=self._may_write_same
            )
        )
        call.left += len(plans)
        for cdb, data, length, piece in plans:
            replace = partial(self._replace_zero, call, piece, cdb)
            command = DataCommand(cdb, DATA_OUT, data, length, self._on_end, call, replace)
            self._queue.dispatch(command)

    def _replace_zero(self, call: Call, extent: Extent, cdb: bytes) -> bool:
        """Zero *extent* in a way that the device may know better than *cdb*, or return False."""
        if cdb[0] != scsi.WRITE_SAME_16:
            return False
        if cdb[1] & scsi.WRITE_SAME_UNMAP:
            self._may_unmap = False
        else:
            self._may_write_same = False
        self._send_zero(call, extent)
        return True

    async def _list(self, lun: Lun, extent: Extent) -> list[tuple[ExtentKind, int]]:
        try:
            return await lun_extents(self._queue.sessions[0], lun, extent)
        except (QueryError, IndexError) as error:
            if isinstance(error, QueryError) and judge(error.outcome) is Verdict.UNSUPPORTED:
                self._can_list = False
            return [(ExtentKind.DATA, extent.length)]

    def _check(self, offset: int, length: int) -> None:
        assert (offset | length) & self._block_mask == 0
        assert length > 0
        assert self.expected is not None
        assert offset >= 0
        assert offset + length <= self.expected.size

    def _refuse(self, kind: CallKind) -> Future[int]:
        future: Future[int] = self._loop.create_future()
        outcome = Outcome(scsi.STATUS_CHECK_CONDITION, 0x7, 0x2700)  # data protect, like a device
        future.set_exception(error_of(kind, self._name, outcome, Verdict.FAILED))
        return future

    # --- the links' news -----------------------------------------------------------------

    def link_has_room(self) -> None:
        """Send what waits. Called by the links."""
        self._queue.fill()

    def link_is_up(self, session: IscsiSession, lun: Lun) -> None:
        """Use *session* from now on. Called by the links."""
        self.expected = lun.geometry
        self._lun = lun
        self._transfer_max = lun.transfer_max
        self._block_mask = lun.geometry.block_size - 1
        self._block_shift = lun.geometry.block_size.bit_length() - 1
        self._queue.sessions.append(session)
        self._update()

    def link_is_down(self, session: IscsiSession, error: SourceError) -> None:
        """Use *session* no more. Called by the links."""
        if session in self._queue.sessions:
            self._queue.sessions.remove(session)
            self._queue.begin_epoch()
            self._queue.statistics.session_losses += 1
        self.last_error = error
        self._update()

    def link_failed(self, error: RestoreError) -> None:
        """Note why a link cannot come up. Called by the links."""
        self.last_error = error
        if not error.retryable:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_exception(error)

    def _update(self) -> None:
        """Find out whether calls have a chance now, and tell those who wait for it."""
        is_usable = (
            bool(self._queue.sessions)
            and not self._is_closed
            and not any(link.is_unsettled for link in self._links)
        )
        was_usable = self._queue.is_usable
        if is_usable:
            self.last_error = None
            self._queue.resume()
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
        else:
            self._queue.stop()
        if is_usable is not was_usable and self._on_change is not None:
            self._loop.call_soon(self._on_change, is_usable)

    def _unreachable(self) -> SourceUnreachableError:
        error = self.last_error
        if self._is_closed:
            reason = "it was closed"
        elif error is None:
            reason = "not connected yet"
        else:
            reason = error.reason if isinstance(error, SourceError) else str(error)
        return SourceUnreachableError(self._name, reason)


def _context_settings(
    url: IscsiUrl,
    initiator: str,
    options: IscsiOptions,
    credentials: Credentials | None,
    instance: str | None,
) -> list[ContextSettings]:
    """Return what each session is opened with; they differ in their ISID."""
    return [
        ContextSettings(
            initiator=initiator,
            iqn=url.iqn,
            lun=url.lun,
            isid=_isid(instance and f"{instance}\0{url}\0{index}"),
            header_digest=options.header_digest,
            credentials=credentials,
            tcp_timeout_ms=int(options.command_timeout_seconds * 1000),
            interface=options.interface,
            source_address=options.source_address,
        )
        for index in range(options.sessions)
    ]


def _isid(seed: str | None) -> tuple[int, int]:
    digest = hashlib.sha256(seed.encode()).digest() if seed else secrets.token_bytes(5)
    return int.from_bytes(digest[:3], "big"), int.from_bytes(digest[3:5], "big")
