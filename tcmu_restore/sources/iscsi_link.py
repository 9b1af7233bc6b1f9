"""Keeps one session to a LUN up, for ever: connect, examine, serve, lose, wait, again.

A link is *down* or *up*, and after a loss it may be *unsettled*: writes were in
flight, and the target may still carry them out. The next login with the same
ISID makes the target end the old session and its commands first (RFC 7143
section 6.3.5), so a link is settled again when it is up again; over another
portal only after some seconds. Until then a rewrite of the same bytes could be
overtaken by the old one.

Several portals are tried in turn, the one that worked last first; after a round
in vain there is a pause.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from asyncio import Future, Task, get_running_loop
from collections import deque
from typing import Final, Protocol

from ..errors import RestoreError, SourceError, SourceUnreachableError
from ..options import IscsiOptions
from .base import SourceGeometry
from .iscsi_lun import Lun, check_same, examine
from .iscsi_session import IscsiSession
from .iscsi_url import IscsiUrl
from .libiscsi import ContextSettings

CONNECT_TIMEOUTS_MAX: Final = 4
"""How many times ``connect_timeout_seconds`` an attempt may take after several in vain."""

STRAY_SECONDS: Final = 5.0
"""How long a target may take to carry out a write that has arrived, beside the time for which the
kernel goes on sending what a closed socket held (TCP_USER_TIMEOUT)."""


class LinkOwner(Protocol):
    """What a link tells its store. All calls come from the loop's thread."""

    @property
    def may_grow(self) -> bool:
        """Whether a larger LUN than expected is the same one, grown."""

    @property
    def expected(self) -> SourceGeometry | None:
        """What the LUN must be; None until the first one was seen."""

    def link_is_up(self, session: IscsiSession, lun: Lun) -> None:
        """A session is ready for commands."""

    def link_is_down(self, session: IscsiSession, error: SourceError) -> None:
        """A session is lost, perhaps before it was up; its commands are ended right after this."""

    def link_failed(self, error: RestoreError) -> None:
        """An attempt to come up failed; another one follows."""

    def link_has_room(self) -> None:
        """Commands have ended on a session that is up."""


class IscsiLink:
    """One slot for a session. ``start`` returns at once; ``stop`` ends it for good."""

    __slots__ = (
        "_attempt",
        "_is_moved",
        "_lost",
        "_lost_at",
        "_name",
        "_options",
        "_owner",
        "_portals",
        "_settings",
        "_task",
        "_timeout_seconds",
        "_url",
        "is_unsettled",
        "session",
    )

    def __init__(
        self,
        owner: LinkOwner,
        url: IscsiUrl,
        settings: ContextSettings,
        options: IscsiOptions,
    ) -> None:
        self._owner = owner
        self._name = str(url)
        self._url = url
        self._settings = settings
        self._options = options
        self._task: Task[None] | None = None
        self._lost: Future[None] | None = None
        self._attempt = 0
        self._portals = deque([(url.host, url.port), *options.portals])
        """The one in use or to be tried next comes first."""
        self._timeout_seconds = options.connect_timeout_seconds
        self._lost_at = 0.0
        self._is_moved = False
        """Whether another portal is tried than the one that the last session was lost on."""
        self.session: IscsiSession | None = None
        self.is_unsettled = False

    def start(self) -> None:
        """Begin to come up, in the background, unless that was done."""
        if self._task is not None:
            return
        self._task = get_running_loop().create_task(self._run(), name=f"iscsi {self._name}")

    async def stop(self) -> None:
        """Stop trying, log out, end what is in flight. Twice is fine; ``start`` begins anew."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait((task,))
        if self.session is not None:
            await self.session.close()

    async def _run(self) -> None:
        delay = self._options.reconnect_delay_seconds
        while True:
            started = get_running_loop().time()
            for _ in self._portals.copy():
                if await self._attempt_one():
                    break
            if get_running_loop().time() - started > self._options.reconnect_delay_max_seconds:
                delay = self._options.reconnect_delay_seconds  # it was no flapping
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._options.reconnect_delay_max_seconds)

    async def _attempt_one(self) -> bool:
        """Try the first portal and stay up; return whether it was up. Else the next is next."""
        try:
            await self._serve()
        except RestoreError as error:
            self._owner.link_failed(error)
        except (OSError, MemoryError) as error:
            self._owner.link_failed(SourceUnreachableError(self._name, str(error)))
        else:
            return True
        limit = CONNECT_TIMEOUTS_MAX * self._options.connect_timeout_seconds
        self._timeout_seconds = min(2 * self._timeout_seconds, limit)
        self._portals.rotate(-1)
        self._is_moved = len(self._portals) > 1
        return False

    async def _serve(self) -> None:
        """Come up and stay so until the session is lost. Raises why it cannot come up."""
        host, port = await self._resolve()
        session = IscsiSession(
            self._name, self._settings, self._options, self._on_lost, self._owner.link_has_room
        )
        await session.open(host, port, self._timeout_seconds)
        self.session = session
        self._lost = get_running_loop().create_future()
        try:
            lun = await self._examine(session)
        except RestoreError:
            await session.close()
            raise
        self._timeout_seconds = self._options.connect_timeout_seconds
        await self._settle(session)
        self.is_unsettled = False
        if not session.is_lost:
            self._owner.link_is_up(session, lun)
        await self._lost

    async def _settle(self, session: IscsiSession) -> None:
        """Wait until no write of an earlier session can arrive any more.

        Another portal may be of another portal group after all, and the target end nothing then.
        """
        if self.is_unsettled and self._is_moved:
            settled = self._lost_at + self._options.command_timeout_seconds + STRAY_SECONDS
            await asyncio.sleep(max(0.0, settled - get_running_loop().time()))
        self._is_moved = False

    async def _examine(self, session: IscsiSession) -> Lun:
        fallback_identity = f"lun.{self._url.iqn}/{self._url.lun}"
        lun = await examine(session, self._name, fallback_identity)
        if self._owner.expected is not None:
            expected, may_grow = self._owner.expected, self._owner.may_grow
            check_same(self._name, lun.geometry, expected, may_grow=may_grow)
        return lun

    def _on_lost(self, session: IscsiSession, error: SourceError) -> None:
        self.session = None
        self._lost_at = get_running_loop().time()
        self.is_unsettled = self.is_unsettled or session.has_lost_writes
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self._owner.link_is_down(session, error)

    async def _resolve(self) -> tuple[str, int]:
        """Return a numeric host and its port; libiscsi's own look-up would block the loop.

        A name with several addresses is tried one address after the other.
        """
        host, port = self._portals[0]
        try:
            ipaddress.ip_address(host)
        except ValueError:
            host = await self._look_up(host)
        return host, port

    async def _look_up(self, host: str) -> str:
        loop = get_running_loop()
        try:
            async with asyncio.timeout(self._options.connect_timeout_seconds):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            reason = f"the name {host} cannot be resolved ({str(error) or 'no answer'})"
            raise SourceUnreachableError(self._name, reason) from error
        addresses = [str(entry[4][0]) for entry in found if "%" not in str(entry[4][0])]
        if not addresses:
            raise SourceUnreachableError(self._name, f"the name {host} has no usable address")
        self._attempt += 1
        return addresses[self._attempt % len(addresses)]
