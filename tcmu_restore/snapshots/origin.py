"""What LIO is asked about, as plain values: storage objects and portal groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .portal import Portal

PLUGINS: Final = ("block", "fileio")
"""The backstores whose storage objects can have snapshots, and that serve them."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A storage object, mostly the one of which a snapshot is taken. Sizes are bytes."""

    name: str
    path: str
    size: int
    block_size: int
    serial: str


@dataclass(frozen=True, slots=True)
class OriginGroup:
    """The portal group that exports the origin, in saveconfig's form, as its LUN *lun*."""

    target: str
    group: dict[str, Any]
    lun: int

    @property
    def portals(self) -> list[Portal]:
        """Where it listens, ascending."""
        return sorted(_portal(item) for item in self.group["portals"])


@dataclass(frozen=True, slots=True)
class Stranger:
    """A storage object that serves a snapshot, by its serial number, and its target, if any."""

    storage_object: Origin
    plugin: str
    target: str = ""
    portals: tuple[str, ...] = ()


def _portal(item: dict[str, Any]) -> Portal:
    return Portal(str(item["ip_address"]), int(item["port"]))
