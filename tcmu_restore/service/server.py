"""The service on the bus: it takes calls, checks who calls, answers, and tells state changes.

It runs on the handler's own asyncio loop and never blocks it; every call is one task. The policy
file lets only root send to the service; the caller's uid is asked of the bus as well, because a
bus without that file lets everybody through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any, Final

from dbus_fast import Message, MessageFlag, MessageType, NameFlag, RequestNameReply
from dbus_fast.aio import MessageBus

from ..errors import RestoreError, ServiceUnavailableError
from ..options import DBUS_MANAGER, DBUS_NAME, DBUS_PATH
from . import bus as message_bus
from . import contract
from .errors import encode_error
from .interface import Manager
from .registry_seam import Registry

_LOG: Final = logging.getLogger(__name__)

ROOT_ONLY: Final = frozenset({0})


async def serve(
    registry: Registry,
    bus_address: str | None = None,
    *,
    allowed_uids: Collection[int] = ROOT_ONLY,
) -> Server:
    """Offer *registry* on the bus and return the running service.

    Args:
        registry: The volumes; its ``on_change`` becomes the StateChanged signal.
        bus_address: Another bus than the system bus, for tests.
        allowed_uids: Who may call.

    Raises:
        ServiceUnavailableError: No bus, or another process owns the name. Retrying may help.
    """
    bus = await message_bus.connect(bus_address)
    server = Server(bus, registry, allowed_uids)
    bus.add_message_handler(server.handle_message)
    reply = await bus.request_name(DBUS_NAME, NameFlag.DO_NOT_QUEUE)
    if reply is not RequestNameReply.PRIMARY_OWNER:
        await message_bus.disconnect(bus)
        raise ServiceUnavailableError(f"another process owns {DBUS_NAME}")
    registry.on_change = server.emit_state_changed
    return server


class Server:
    """A service on the bus. Made by :func:`serve`; used on the loop's thread only."""

    def __init__(self, bus: MessageBus, registry: Registry, allowed_uids: Collection[int]) -> None:
        self._bus = bus
        self._registry = registry
        self._manager = Manager(registry)
        self._allowed_uids = frozenset(allowed_uids)
        self._calls: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Leave the bus; calls that are still running are cancelled."""
        self._registry.on_change = _ignore_change
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await message_bus.disconnect(self._bus)

    def emit_state_changed(self, name: str, state: str) -> None:
        """Broadcast that a volume's state is now *state*."""
        if not self._bus.connected:
            return
        self._bus.send(
            Message(
                message_type=MessageType.SIGNAL,
                path=DBUS_PATH,
                interface=DBUS_MANAGER,
                member=contract.STATE_CHANGED,
                signature=contract.STATE_CHANGED_SIGNATURE,
                body=[name, state],
            )
        )

    def handle_message(self, message: Message) -> Message | bool:
        """Take the message if it is a call of ours, else leave it to the library's defaults."""
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        if message.interface == contract.INTROSPECTABLE and message.member == "Introspect":
            xml = contract.introspect(message.path or "")
            return Message.new_method_return(message, "s", [xml]) if xml else False
        if message.path != DBUS_PATH or message.interface not in (None, DBUS_MANAGER):
            return False
        method = contract.METHODS.get(message.member or "")
        if method is None or method.in_signature != message.signature:
            return False  # the library answers UnknownMethod
        task = asyncio.get_running_loop().create_task(self._answer(message, method))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return True

    async def _answer(self, message: Message, method: contract.Method) -> None:
        reply = await self._reply(message, method)
        if not message.flags & MessageFlag.NO_REPLY_EXPECTED and self._bus.connected:
            await self._bus.send(reply)

    async def _reply(self, message: Message, method: contract.Method) -> Message:
        try:
            if not await self._is_allowed(message.sender or ""):
                return Message.new_error(
                    message, contract.ACCESS_DENIED, "Only root may use tcmu-restore."
                )
            body = await self._manager.call(method.member, message.body)
            return Message.new_method_return(message, method.result, body)
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the caller gets an answer
            self._log(method.member, message.body, error)
            return Message.new_error(message, *encode_error(error))

    async def _is_allowed(self, sender: str) -> bool:
        reply = await self._bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="GetConnectionUnixUser",
                signature="s",
                body=[sender],
            )
        )
        if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
            return False  # the caller has gone already
        return reply.body[0] in self._allowed_uids

    @staticmethod
    def _log(member: str, arguments: list[Any], error: Exception) -> None:
        name = arguments[0] if arguments else "-"
        if isinstance(error, RestoreError):
            _LOG.info("%s %s: refused: %s", member, name, error)
        else:
            _LOG.error("%s %s: answered with an internal error", member, name, exc_info=error)


def _ignore_change(_name: str, _state: str) -> None:
    pass
