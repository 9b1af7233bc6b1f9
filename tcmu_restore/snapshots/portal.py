"""Portals: what is typed, what initiators are told, and where LIO has to listen for it."""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from ..errors import BadSettingError

PORT_DEFAULT: Final = 3260
_PORT_MAX: Final = 65535


@dataclass(frozen=True, slots=True, order=True)
class Portal:
    """An address as LIO writes it, IPv6 in brackets, and a port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def is_every_address(self) -> bool:
        """Whether it listens on all addresses of the host."""
        return _number(self.address).is_unspecified


def parse_portal(text: str) -> Portal:
    """Return the portal ADDRESS[:PORT]; an IPv6 address may stand without brackets.

    Raises:
        BadSettingError: it is not a number of an address, or not a port.
    """
    address, port = _split(text)
    try:
        number = _number(address)
        chosen = int(port) if port is not None else PORT_DEFAULT
    except ValueError as error:
        raise BadSettingError("portal", text[:100], "expected ADDRESS[:PORT]") from error
    if not 0 < chosen <= _PORT_MAX:
        raise BadSettingError("portal", text[:100], f"a port is 1 to {_PORT_MAX}")
    return Portal(f"[{number}]" if number.version == 6 else str(number), chosen)  # noqa: PLR2004


def listening_portal(wanted: Portal, existing: Collection[Portal]) -> Portal:
    """Return where LIO must listen so that *wanted* is reached.

    A port that is listened on for every address cannot be bound once more for a single one.
    """
    for portal in existing:
        if portal.port == wanted.port and portal.is_every_address:
            if _number(portal.address).version == _number(wanted.address).version:
                return portal
            if _number(portal.address).version == 6:  # noqa: PLR2004 - it takes IPv4 as well
                return portal
    return wanted


def is_address_here(portal: Portal) -> bool:
    """Return whether this host has the portal's address: LIO takes any, nobody reaches another's.

    Source: ip(7), IP_FREEBIND, which the kernel's target sets on its sockets.
    """
    number = _number(portal.address)
    family = socket.AF_INET6 if number.version == 6 else socket.AF_INET  # noqa: PLR2004
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((str(number), 0))
    except OSError:
        return False
    return True


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("[") and "]" in text:
        address, _, rest = text[1:].partition("]")
        return address, rest.removeprefix(":") if rest else None
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return address, port
    return text, None


def _number(address: str) -> IPv4Address | IPv6Address:
    if "%" in address:
        raise ValueError("an address with a zone means something else on another host")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return ip_address(address)
