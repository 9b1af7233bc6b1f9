"""Signals of the service, as a client on the bus sees them."""

from __future__ import annotations

import asyncio
from typing import Any

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus


class SignalRecord:
    """Every signal of ours on one connection: (path, member, body), in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, list[Any]]] = []
        self._news = asyncio.Event()

    async def listen(self, bus: MessageBus) -> None:
        """Begin; returns when the bus has taken the match."""
        bus.add_message_handler(self._take)
        await bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=["type='signal',path_namespace='/org/tcmu_restore'"],
            )
        )

    async def wait(self, count: int) -> None:
        """Return when *count* signals are there."""
        while len(self.seen) < count:
            self._news.clear()
            await self._news.wait()

    def _take(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL and message.path != "/org/freedesktop/DBus":
            self.seen.append((message.path or "", message.member or "", message.body))
            self._news.set()
        return False
