"""A connection to the message bus, for the service and for its clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from dbus_fast import BusType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, InvalidAddressError

from ..errors import ServiceUnavailableError

CONNECT_SECONDS: Final = 5.0
"""The bus is a local socket: what takes longer than this is not going to answer."""


async def connect(bus_address: str | None) -> MessageBus:
    """Connect to the bus at *bus_address*, or to the system bus (DBUS_SYSTEM_BUS_ADDRESS).

    Raises:
        ServiceUnavailableError: There is no bus, or it let nobody in. Retrying may help.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await MessageBus(bus_address=bus_address, bus_type=BusType.SYSTEM).connect()
    except TimeoutError as error:
        raise ServiceUnavailableError("the message bus does not answer") from error
    except (OSError, AuthError, InvalidAddressError) as error:
        raise ServiceUnavailableError(f"no message bus: {error}") from error


async def disconnect(bus: MessageBus) -> None:
    """Close the connection and wait until it is closed; a broken one is fine, too."""
    disconnected: Callable[[], Awaitable[None]] = bus.wait_for_disconnect  # untyped in the library
    bus.disconnect()
    with suppress(OSError, EOFError, TimeoutError):  # the peer was faster; nothing is left to close
        async with asyncio.timeout(CONNECT_SECONDS):
            await disconnected()
    _close_socket(bus)


def _close_socket(bus: MessageBus) -> None:
    """Close what the library closes itself only since 5.0.

    Before that (Debian 13 has 2.44) the descriptor waits for the cyclic garbage collector, and a
    client that polls each second would hold hundreds of them.
    """
    for part in ("_stream", "_sock"):
        closable = getattr(bus, part, None)
        if closable is not None:
            with suppress(OSError):
                closable.close()
