"""One volume's status again and again, over one connection, woken by the service's signals.

The service and even the bus may be restarted meanwhile: each reading tries anew.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Final, cast

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from ..errors import ServiceUnavailableError
from ..options import DBUS_NAME, DBUS_PATH
from ..service import bus as message_bus
from ..service.registry_seam import VolumeStatus
from ..text import printable_all
from .client import call
from .errors import ReplyError
from .status_reading import closed_status

ANSWER_SECONDS: Final = 5.0
"""A status is answered from memory; a service that takes longer is shown as not answering."""

SETTLE_SECONDS: Final = 0.1
"""Signals come in flocks; one look answers them all."""

_BUS: Final = "org.freedesktop.DBus"
_MATCHES: Final = (
    f"type='signal',path_namespace='{DBUS_PATH}'",
    f"type='signal',sender='{_BUS}',member='NameOwnerChanged',arg0='{DBUS_NAME}'",
)


class StatusFeed:
    """Readings of the volume *name*. All methods belong to one event loop."""

    def __init__(self, name: str, bus_address: str | None) -> None:
        self.name = name
        self._bus_address = bus_address
        self._bus: MessageBus | None = None
        self._news = asyncio.Event()

    async def read(self) -> VolumeStatus:
        """Return the status as it is now.

        Raises:
            ServiceUnavailableError: Nobody answers; the next call connects anew.
            ReplyError: The service refused, as it does when there is no such volume.
        """
        try:
            bus = await self._connected()
            text = await call(bus, "Status", (self.name,), timeout_seconds=ANSWER_SECONDS)
        except ServiceUnavailableError:
            await self.close()
            raise
        except ReplyError as error:
            return closed_status(self.name, error)
        return cast(VolumeStatus, printable_all(json.loads(text)))

    async def wait(self, seconds: float) -> None:
        """Return after *seconds*, or sooner when the service has told a change."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
                await asyncio.sleep(SETTLE_SECONDS)
        self._news.clear()

    async def close(self) -> None:
        """Leave the bus; a later reading would connect again."""
        bus, self._bus = self._bus, None
        if bus is not None:
            await message_bus.disconnect(bus)

    async def _connected(self) -> MessageBus:
        if self._bus is None or not self._bus.connected:
            await self.close()
            self._bus = bus = await message_bus.connect(self._bus_address)
            bus.add_message_handler(self._take)
            for rule in _MATCHES:
                await self._add_match(bus, rule)
        return self._bus

    def _take(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL:
            self._news.set()
        return False

    @staticmethod
    async def _add_match(bus: MessageBus, rule: str) -> None:
        message = Message(
            destination=_BUS,
            path="/org/freedesktop/DBus",
            interface=_BUS,
            member="AddMatch",
            signature="s",
            body=[rule],
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await bus.call(message)
        except (OSError, EOFError, TimeoutError) as error:
            raise ServiceUnavailableError("the message bus went away") from error
