"""What an admin sets of a link: the live one to the backup, the bulk one to a snapshot.

The same words stand in the definition (``[backup]``, ``[snapshot_link]``), in the settings of
CreateVolume and AttachSnapshot, and in the state file. All of it is hostile input. There is no
place for a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import BadSettingError
from ..sources.iscsi_url import parse_portal

PORTALS_MAX: Final = 8
"""Each is tried in turn, and an attempt at a dead one takes seconds."""

SESSIONS_MAX: Final = 16
"""Beyond it a link gains nothing, and LIO's own limits are near."""

WORDS_MAX: Final = 64
WORD_LENGTH_MAX: Final = 1024
"""Of a link command; far below what the kernel takes, and the state file holds it."""

TIMEOUT_SECONDS_MAX: Final = 300
"""A modem dials for a minute; who waits for the command line waits as long."""

_INTERFACE: Final = re.compile(r"[^\s/:]{1,15}", re.ASCII)  # IFNAMSIZ - 1; dev_valid_name()


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """A link. Commands are there for a bulk link only, both or none."""

    portals: tuple[str, ...] = ()
    """Further ``HOST[:PORT]`` of the same portal group, tried in turn when one is dead."""

    interface: str | None = None
    source_address: str | None = None
    sessions: int | None = None
    header_digest: bool = False
    rate_max: int | None = None
    """Bytes a second that background work sends over it at most; None: no ceiling of its own."""

    link_up: tuple[str, ...] = ()
    link_down: tuple[str, ...] = ()
    link_timeout_seconds: int = 30


def parse_link(raw: Mapping[str, Any], *, bulk: bool) -> LinkSettings:
    """Return the settings in *raw*. Raises BadSettingError; it never repeats a command."""
    known = _BULK if bulk else _LIVE
    for name in raw:
        if name not in known:
            raise BadSettingError(name, "…", "a link has no such setting")
    link = LinkSettings(**{name: known[name](name, value) for name, value in raw.items()})
    if bool(link.link_up) is not bool(link.link_down):
        raise BadSettingError(
            "link_up" if link.link_up else "link_down",
            "…",
            "link_up and link_down go together, or a link would be left up",
        )
    return link


def live_settings(link: LinkSettings) -> dict[str, Any]:
    """Return the settings of a live *link* that are not the default. Inverse of ``parse_link``."""
    default = LinkSettings()
    found = {name: getattr(link, name) for name in LIVE_KEYS}
    return {name: value for name, value in found.items() if value != getattr(default, name)}


def _portals(name: str, value: object) -> tuple[str, ...]:
    portals = _texts(name, value)
    if len(portals) > PORTALS_MAX:
        raise BadSettingError(name, str(len(portals)), f"there may be {PORTALS_MAX} at most")
    for portal in portals:
        parse_portal(portal)
    return portals


def _interface(name: str, value: object) -> str:
    if not isinstance(value, str) or not _INTERFACE.fullmatch(value):
        raise BadSettingError(name, _shown(value), "it is not the name of a network interface")
    return value


def _address(name: str, value: object) -> str:
    try:
        if isinstance(value, str) and "%" not in value:
            return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    raise BadSettingError(name, _shown(value), "it is not an IP address")


def _number(high: int) -> Callable[[str, object], int]:
    def parse(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
            raise BadSettingError(name, _shown(value), f"it must be a number from 1 to {high}")
        return value

    return parse


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadSettingError(name, _shown(value), "it must be true or false")
    return value


def _command(name: str, value: object) -> tuple[str, ...]:
    words = _texts(name, value)
    if not words or not words[0].startswith("/"):
        raise BadSettingError(name, "…", "its first word must be the absolute path of a program")
    if len(words) > WORDS_MAX or any(len(word) > WORD_LENGTH_MAX for word in words):
        raise BadSettingError(name, "…", "it is too long")
    if any("\0" in word for word in words):
        raise BadSettingError(name, "…", "it holds a NUL character")
    return words


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise BadSettingError(name, "…", "it must be a list of texts")
    return tuple(value)


def _shown(value: object) -> str:
    return str(value)[:80]


_LIVE: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "portals": _portals,
    "interface": _interface,
    "source_address": _address,
    "sessions": _number(SESSIONS_MAX),
    "header_digest": _boolean,
    "rate_max": _number(1 << 62),
}
_BULK: Final = {
    **_LIVE,
    "link_up": _command,
    "link_down": _command,
    "link_timeout_seconds": _number(TIMEOUT_SECONDS_MAX),
}

LIVE_KEYS: Final = tuple(_LIVE)
BULK_KEYS: Final = tuple(_BULK)
"""The names of the settings of each kind of link."""
