"""The service on the bus: it takes calls, checks who calls, answers, and tells what changed.

It runs on the handler's own asyncio loop and never blocks it; every call is one task. The policy
file lets only root, and a named group where there is one, send to the service and hear it; who the
caller is is asked of the bus as well, because a bus without that file lets everybody through.
"""

from __future__ import annotations

import asyncio
import grp
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from dbus_fast import (
    DBusError,
    Message,
    MessageFlag,
    MessageType,
    NameFlag,
    RequestNameReply,
    Variant,
)
from dbus_fast.aio import MessageBus

from ..errors import RestoreError, ServiceUnavailableError, UnknownVolumeError
from ..log_line import log_line
from ..options import (
    DBUS_GROUP,
    DBUS_MANAGER,
    DBUS_NAME,
    DBUS_PATH,
    VOLUME_NAME_LENGTH_MAX,
)
from . import bus as message_bus
from . import contract
from .errors import encode_error
from .interface import Manager
from .introspection import introspect, introspect_volume, introspect_volumes
from .registry_seam import Registry
from .volume_object import VolumeObjects

_LOG: Final = logging.getLogger(__name__)

ROOT_ONLY: Final = frozenset({0})

_PROPERTY_CALLS: Final = {"Get": ("ss", "v"), "GetAll": ("s", "a{sv}"), "Set": ("ssv", "")}
"""The methods of the standard's Properties: signatures of the call and of the answer."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that was recognised: the volume it is about, the answer's signature, what to run."""

    volume: str
    signature: str
    run: Callable[[], Awaitable[list[Any]]]


async def serve(
    registry: Registry,
    bus_address: str | None = None,
    *,
    allowed_uids: Collection[int] = ROOT_ONLY,
    allowed_group: str = DBUS_GROUP,
) -> Server:
    """Offer *registry* on the bus and return the running service.

    Args:
        registry: The volumes; its ``on_change`` becomes the signals.
        bus_address: Another bus than the system bus, for tests.
        allowed_uids: Who may call.
        allowed_group: Whose members may call too, if there is such a group now.

    Raises:
        ServiceUnavailableError: No bus, or another process owns the name. Retrying may help.
    """
    bus = await message_bus.connect(bus_address)
    server = Server(bus, registry, allowed_uids, _group_ids(allowed_group))
    bus.add_message_handler(server.handle_message)
    reply = await bus.request_name(DBUS_NAME, NameFlag.DO_NOT_QUEUE)
    if reply is not RequestNameReply.PRIMARY_OWNER:
        await message_bus.disconnect(bus)
        raise ServiceUnavailableError(f"another process owns {DBUS_NAME}")
    registry.on_change = server.emit_state_changed
    return server


def _group_ids(name: str) -> frozenset[int]:
    try:
        return frozenset((grp.getgrnam(name).gr_gid,))
    except KeyError:
        return frozenset()


class Server:
    """A service on the bus. Made by :func:`serve`; used on the loop's thread only."""

    def __init__(
        self,
        bus: MessageBus,
        registry: Registry,
        allowed_uids: Collection[int],
        allowed_gids: Collection[int] = (),
    ) -> None:
        self._bus = bus
        self._registry = registry
        self._manager = Manager(registry)
        self._volumes = VolumeObjects(registry)
        self._states: dict[str, str] = {}
        self._allowed_uids = frozenset(allowed_uids)
        self._allowed_gids = frozenset(allowed_gids)
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
        """Broadcast that a volume's state is now *state*, and soon what else is news.

        The engine calls this in the midst of a change: its status is read when that is over.
        """
        if not self._bus.connected:
            return
        asyncio.get_running_loop().call_soon(self._announce, name, state)
        if self._states.get(name) != state:
            self._states[name] = state
            signal = (DBUS_MANAGER, contract.STATE_CHANGED, contract.STATE_CHANGED_SIGNATURE)
            self._broadcast(DBUS_PATH, signal, [name, state])

    def _announce(self, name: str, state: str) -> None:
        news = self._volumes.news(name, state)
        if news is not None and self._bus.connected:
            members = (contract.PROPERTIES_CHANGED, contract.PROPERTIES_CHANGED_SIGNATURE)
            body = [contract.VOLUME_INTERFACE, *news]
            self._broadcast(contract.volume_path(name), (contract.PROPERTIES, *members), body)

    def _broadcast(self, path: str, signal: tuple[str, str, str], body: list[Any]) -> None:
        interface, member, signature = signal
        message = Message(
            message_type=MessageType.SIGNAL,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=body,
        )
        self._bus.send(message)

    def handle_message(self, message: Message) -> Message | bool:
        """Take the message if it is a call of ours, else leave it to the library's defaults."""
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        path, interface = message.path or "", message.interface
        if interface == contract.INTROSPECTABLE and message.member == "Introspect":
            xml = introspect(path)
            if xml is not None:
                return Message.new_method_return(message, "s", [xml])
            call = self._introspection(path)
        elif path == DBUS_PATH and interface in (None, DBUS_MANAGER):
            call = self._manager_call(message)
        elif interface in (None, contract.PROPERTIES):
            call = self._property_call(message)
        else:
            call = None
        if call is None:
            return False  # the library answers UnknownMethod or the like
        task = asyncio.get_running_loop().create_task(self._answer(message, call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return True

    def _manager_call(self, message: Message) -> _Call | None:
        method = contract.METHODS.get(message.member or "")
        if method is None or method.in_signature != message.signature:
            return None
        name = str(message.body[0])[: 2 * VOLUME_NAME_LENGTH_MAX] if method.arguments else "-"
        run = partial(self._manager.call, method.member, message.body)
        return _Call(name, method.result, run)

    def _property_call(self, message: Message) -> _Call | None:
        member, name = message.member or "", contract.volume_name(message.path or "")
        expected, signature = _PROPERTY_CALLS.get(member, (None, ""))
        if name is None or expected != message.signature:
            return None
        return _Call(name, signature, partial(self._volumes.call, name, member, message.body))

    def _introspection(self, path: str) -> _Call | None:
        """Introspect what tells which volumes there are: not for everybody."""
        name = contract.volume_name(path)
        if name is None and path != contract.VOLUMES_PATH:
            return None

        async def run() -> list[Any]:
            names = self._registry.list_volumes()
            if name is None:
                return [introspect_volumes(names)]
            if name not in names:
                raise UnknownVolumeError(name)
            return [introspect_volume()]

        return _Call(name or "-", "s", run)

    async def _answer(self, message: Message, call: _Call) -> None:
        reply = await self._reply(message, call)
        if not message.flags & MessageFlag.NO_REPLY_EXPECTED and self._bus.connected:
            await self._bus.send(reply)

    async def _reply(self, message: Message, call: _Call) -> Message:
        try:
            if not await self._is_allowed(message.sender or ""):
                return Message.new_error(
                    message,
                    contract.ACCESS_DENIED,
                    f"Only root, or the group {DBUS_GROUP}, may use tcmu-restore.",
                )
            return Message.new_method_return(message, call.signature, await call.run())
        except DBusError as error:  # the caller misuses the protocol
            return Message.new_error(message, error.type, error.text)
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the caller gets an answer
            self._log(message.member, call.volume, error)
            return Message.new_error(message, *encode_error(error))

    async def _is_allowed(self, sender: str) -> bool:
        """Ask the bus who *sender* is; a bus that does not tell groups lets no group in."""
        reply = await self._bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="GetConnectionCredentials",
                signature="s",
                body=[sender],
            )
        )
        if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
            return False  # the caller has gone already
        told: dict[str, Variant] = reply.body[0]
        if "UnixUserID" in told and told["UnixUserID"].value in self._allowed_uids:
            return True
        groups = told["UnixGroupIDs"].value if "UnixGroupIDs" in told else ()
        return not self._allowed_gids.isdisjoint(groups)

    @staticmethod
    def _log(member: str | None, name: str, error: Exception) -> None:
        if isinstance(error, RestoreError):
            line = log_line(f"refused: {error}", volume=name, operation=member or "")
            _LOG.info(line)
        else:
            sentence = "answered with an internal error"
            line = log_line(sentence, volume=name, operation=member or "")
            _LOG.error(line, exc_info=error)


def _ignore_change(_name: str, _state: str) -> None:
    pass
