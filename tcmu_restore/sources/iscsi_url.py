"""Names of LUNs: ``iscsi://HOST[:PORT]/IQN/LUN``.

The text is hostile input: it comes from a definition file, the command line or
D-Bus, and its parts go into C strings of 255 bytes. So everything not expected
is refused, and libiscsi's own parser (which also reads the environment) is not
used.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from ..errors import BadSettingError, BadUrlError

DEFAULT_PORT: Final = 3260
"""The registered port. Source: RFC 7143 section 4.2."""

URL_LENGTH_MAX: Final = 600
"""Characters: a host name of 253, an IQN of 223, and room."""

LUN_MAX: Final = 16383
"""What flat space addressing holds. Source: SAM-5 section 4.7.7.4."""

_PORT_MAX: Final = 65535
_HOST_LENGTH_MAX: Final = 253  # RFC 1035
_FORM: Final = re.compile(r"iscsi://([^/]*)/([^/]*)/([0-9]{1,5})", re.ASCII)
_PORTAL: Final = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", re.ASCII)
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_IQN: Final = re.compile(r"(iqn|eui|naa)\.[A-Za-z0-9._:-]{1,219}", re.ASCII)


@dataclass(frozen=True, slots=True)
class IscsiUrl:
    """One LUN of one target behind one portal."""

    host: str
    """A host name, or a numeric address without brackets."""

    port: int
    iqn: str
    lun: int

    def __str__(self) -> str:
        return f"iscsi://{format_portal(self.host, self.port)}/{self.iqn}/{self.lun}"


def parse_portal(text: str) -> tuple[str, int]:
    """Return the host and the port of ``HOST[:PORT]``. Raises BadSettingError."""
    try:
        return _parse_portal(text, text)
    except BadUrlError as error:
        raise BadSettingError("portals", text[:URL_LENGTH_MAX], error.reason) from error


def format_portal(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_iscsi_url(text: str) -> IscsiUrl:
    """Return the LUN that *text* names.

    Raises:
        BadUrlError: it names none, or holds a user or password. The message never repeats those.
    """
    if "@" in text:
        shown = "iscsi://…@" + text.rpartition("@")[2][:URL_LENGTH_MAX]
        raise BadUrlError(shown, "user and password belong in a credentials file, not in the URL")
    if len(text) > URL_LENGTH_MAX:
        raise BadUrlError(text[:80] + "…", f"it is longer than {URL_LENGTH_MAX} characters")
    match = _FORM.fullmatch(text)
    if match is None:
        raise BadUrlError(text, "it has another form")
    portal, iqn, lun = match.groups()
    host, port = _parse_portal(text, portal)
    if not _IQN.fullmatch(iqn):
        raise BadUrlError(text, "the target's name must begin with iqn., eui. or naa.")
    if int(lun) > LUN_MAX:
        raise BadUrlError(text, f"the LUN is above {LUN_MAX}")
    return IscsiUrl(host, port, iqn, int(lun))


def _parse_portal(text: str, portal: str) -> tuple[str, int]:
    match = _PORTAL.fullmatch(portal)
    if match is None:
        raise BadUrlError(text, "the host is malformed (an IPv6 address goes in brackets)")
    host, port_text = match.groups()
    port = int(port_text) if port_text else DEFAULT_PORT
    if not 0 < port <= _PORT_MAX:
        raise BadUrlError(text, f"the port is not between 1 and {_PORT_MAX}")
    if host.startswith("["):
        return _parse_ipv6(text, host[1:-1]), port
    if not _is_host(host):
        raise BadUrlError(text, "the host is neither a name nor an address")
    return host, port


def _parse_ipv6(text: str, address: str) -> str:
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError as error:
        raise BadUrlError(text, "what stands in brackets is not an IPv6 address") from error
    if parsed.scope_id is not None:
        raise BadUrlError(text, "an IPv6 zone is not supported")
    return str(parsed)


def _is_host(host: str) -> bool:
    if re.fullmatch(r"[0-9.]+", host, re.ASCII):
        try:
            return bool(ipaddress.IPv4Address(host))
        except ValueError:
            return False
    labels = host.removesuffix(".").split(".")
    return len(host) <= _HOST_LENGTH_MAX and all(_LABEL.fullmatch(label) for label in labels)
