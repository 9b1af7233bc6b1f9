"""The service's client: one synchronous method a D-Bus method.

Each call opens its own connection to the bus and closes it again, so a client may be kept as long
as one likes and survives a restart of either side. Nothing blocks longer than the timeout.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from ..errors import BadSettingError, ServiceUnavailableError
from ..options import DBUS_MANAGER, DBUS_NAME, DBUS_PATH, SLOW_SECONDS
from ..service import bus as message_bus
from ..service.contract import (
    ACCESS_DENIED,
    LINK_MEMBERS,
    LINK_SECONDS_MAX,
    LINK_SETTINGS,
    METHODS,
)
from ..service.registry_seam import MapSummary, VolumeStatus
from ..text import printable, printable_all
from .errors import ReplyError

TIMEOUT_SECONDS: Final = 60.0
"""A create or attach logs in to a peer, which may be slow to answer; D-Bus' own habit is 25."""

_BUS_ERROR: Final = "org.freedesktop.DBus.Error."
_NOBODY_THERE: Final = frozenset(
    _BUS_ERROR + name
    for name in ("ServiceUnknown", "NameHasNoOwner", "NoReply", "Disconnected", "NoServer")
)


class ServiceClient:
    """Calls the running handler. Every method may raise two errors.

    Raises:
        ServiceUnavailableError: No bus, no service, or no answer in time. Retrying may help.
        ReplyError: The service refused; its name says which class of ``tcmu_restore.errors``.
    """

    def __init__(
        self,
        bus_address: str | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
        on_slow: Callable[[], None] = lambda: None,
    ) -> None:
        self._bus_address = bus_address
        self._timeout_seconds = timeout_seconds
        self._slow_seconds = slow_seconds
        self._on_slow = on_slow

    def create_volume(
        self,
        name: str,
        *,
        primary: str,
        backup: str,
        credentials: str | None = None,
        mirror: str | None = None,
        link: Mapping[str, Any] | None = None,
    ) -> int:
        """Define a volume and return its size in bytes; *link*: settings of the live link."""
        settings = {"primary": Variant("s", primary), "backup": Variant("s", backup)}
        settings |= _credentials(credentials) | _link(link)
        if mirror is not None:
            settings["mirror"] = Variant("s", mirror)
        return cast(int, self._call("CreateVolume", name, settings))

    def delete_volume(self, name: str) -> None:
        """Forget a volume."""
        self._call("DeleteVolume", name)

    def list_volumes(self) -> list[str]:
        """Return the names of all volumes."""
        return cast(list[str], printable_all(self._call("ListVolumes")))

    def status(self, name: str) -> VolumeStatus:
        """Return one volume's status."""
        return cast(VolumeStatus, printable_all(json.loads(self._call("Status", name))))

    def map(self, name: str, cells: int) -> MapSummary:
        """Return how many regions of each kind each of at most *cells* parts of a volume has."""
        return cast(MapSummary, printable_all(json.loads(self._call("Map", name, cells))))

    def attach_snapshot(
        self,
        name: str,
        snapshot: str,
        *,
        credentials: str | None = None,
        extents: Sequence[tuple[int, int]] | None = None,
        link: Mapping[str, Any] | None = None,
    ) -> None:
        """Attach a static copy, an iscsi:// URL or a path; *extents* are all that it covers.

        *link*: settings of the bulk link.
        """
        settings = _credentials(credentials) | _link(link)
        if extents is not None:
            settings["extents"] = Variant("a(tt)", [list(extent) for extent in extents])
        self._call("AttachSnapshot", name, snapshot, settings)

    def link_down(self, name: str) -> None:
        """Take the bulk link down."""
        self._call("LinkDown", name)

    def detach_snapshot(self, name: str) -> None:
        """Forget the attached snapshot."""
        self._call("DetachSnapshot", name)

    def merge(self, action: str, name: str) -> None:
        """Start, pause, resume or cancel the merge; returns at once."""
        self._call(f"Merge{action.capitalize()}", name)

    def replace_primary(self, name: str, primary: str) -> None:
        """Put another disk under the running volume."""
        self._call("ReplacePrimary", name, primary)

    def declare_lost(
        self, name: str, *, offset: int = 0, length: int | None = None, force: bool = False
    ) -> int:
        """Count bytes as lost, without *length* to the end; return the number of regions."""
        settings = _extent(offset, length)
        if force:
            settings["force"] = Variant("b", value=True)
        return cast(int, self._call("DeclareLost", name, settings))

    def accept_outdated(self, name: str, *, offset: int = 0, length: int | None = None) -> int:
        """Let the backup's older bytes count; return the number of regions."""
        return cast(int, self._call("AcceptOutdated", name, _extent(offset, length)))

    def prepare_snapshot(self, name: str) -> None:
        """Note that a new snapshot of the backup is about to be taken."""
        self._call("PrepareSnapshot", name)

    def rebuild_state(self, name: str) -> str:
        """Make the state file anew; return what was salvaged and what it costs."""
        return printable(cast(str, self._call("RebuildState", name)))

    def resize(self, name: str) -> int:
        """Let a volume grow to its backup's size; return its size in bytes."""
        return cast(int, self._call("Resize", name))

    def protect(self, name: str, mirror: str) -> None:
        """Change the mirror policy, and note that the volume is to stay mirrored."""
        self._call("Protect", name, mirror)

    def retire(self, name: str, *, forget: bool) -> None:
        """Put the definition and state of a restored volume that is not open aside."""
        self._call("Retire", name, forget)

    def take_back(self, name: str) -> None:
        """Undo ``retire``: the volume can be opened again, and all of it is stale."""
        self._call("TakeBack", name)

    def verify(self, action: str, name: str, *, repair: str = "none") -> None:
        """Start, pause, resume or cancel the comparison of primary and backup."""
        self._call("Verify", name, action, repair)

    def resync(self, action: str, name: str) -> None:
        """Pause or resume the resync."""
        self._call(f"Resync{action.capitalize()}", name)

    def _call(self, member: str, *arguments: Any) -> Any:
        return asyncio.run(self._call_in_time(member, arguments))

    async def _call_in_time(self, member: str, arguments: tuple[Any, ...]) -> Any:
        bus = await message_bus.connect(self._bus_address)
        slow = asyncio.get_running_loop().call_later(self._slow_seconds, self._on_slow)
        try:
            more = LINK_SECONDS_MAX if member in LINK_MEMBERS else 0.0
            seconds = self._timeout_seconds + more
            return await call(bus, member, arguments, timeout_seconds=seconds)
        finally:
            slow.cancel()
            await message_bus.disconnect(bus)


async def call(
    bus: MessageBus, member: str, arguments: tuple[Any, ...], *, timeout_seconds: float
) -> Any:
    """Call a method of the service over *bus* and return its result.

    Raises:
        ServiceUnavailableError, ReplyError: As the methods of ``ServiceClient``.
        BadSettingError: An argument is not UTF-8, which the bus does not carry.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            reply = await bus.call(_message(member, arguments))
    except TimeoutError as error:
        reason = f"no answer within {timeout_seconds:g} s"
        raise ServiceUnavailableError(reason) from error
    except (OSError, EOFError) as error:
        raise ServiceUnavailableError("the message bus went away") from error
    except UnicodeEncodeError as error:
        raise BadSettingError("argument", ascii(error.object)[:80], "it is not UTF-8") from error
    return _result(member, reply)


def _credentials(path: str | None) -> dict[str, Variant]:
    return {"credentials": Variant("s", path)} if path else {}


def _link(link: Mapping[str, Any] | None) -> dict[str, Variant]:
    return {key: Variant(LINK_SETTINGS[key], value) for key, value in (link or {}).items()}


def _extent(offset: int, length: int | None) -> dict[str, Variant]:
    extent = {"offset": Variant("t", offset)}
    return extent if length is None else extent | {"length": Variant("t", length)}


def _message(member: str, arguments: tuple[Any, ...]) -> Message:
    return Message(
        destination=DBUS_NAME,
        path=DBUS_PATH,
        interface=DBUS_MANAGER,
        member=member,
        signature=METHODS[member].in_signature,
        body=list(arguments),
    )


def _result(member: str, reply: Message | None) -> Any:
    if reply is None:
        raise ServiceUnavailableError("it went away during the call")
    if reply.message_type is MessageType.ERROR:
        raise _reply_error(reply)
    if reply.signature != METHODS[member].result:
        reason = f"it answers {member} in a form that this program does not know"
        raise ServiceUnavailableError(reason)
    return reply.body[0] if reply.body else None


def _reply_error(reply: Message) -> Exception:
    name = reply.error_name or ""
    text = str(reply.body[0]) if reply.body else name
    if name in _NOBODY_THERE or name.startswith(_BUS_ERROR + "Spawn"):
        return ServiceUnavailableError(text.rstrip("."))
    if name == ACCESS_DENIED:
        text = "Only root may use tcmu-restore; run it with sudo."
    return ReplyError(name, text)
