"""What goes over the bus: the methods of Manager1, the properties of Volume1, and error names.

The service answers by these tables and the clients call by them, so the two cannot drift apart. No
I/O and no D-Bus library here; anybody may import this module from any thread.

Names follow the D-Bus habit: a change that breaks a caller gets a new interface (``Manager2``), a
new method or a new setting does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ..options import DBUS_PATH, VOLUME_NAME

ERROR_PREFIX: Final = "org.tcmu_restore.Error."
INTERNAL_ERROR: Final = ERROR_PREFIX + "Internal"
ACCESS_DENIED: Final = "org.freedesktop.DBus.Error.AccessDenied"

INTROSPECTABLE: Final = "org.freedesktop.DBus.Introspectable"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"

VOLUME_INTERFACE: Final = "org.tcmu_restore.Volume1"
VOLUMES_PATH: Final = f"{DBUS_PATH}/volume"
"""One object per defined volume is below; see :func:`volume_path`."""

STATE_CHANGED: Final = "StateChanged"
STATE_CHANGED_SIGNATURE: Final = "ss"
PROPERTIES_CHANGED: Final = "PropertiesChanged"
PROPERTIES_CHANGED_SIGNATURE: Final = "sa{sv}as"


@dataclass(frozen=True, slots=True)
class Method:
    """One method: ``arguments`` are (name, signature) in order, ``result`` is one signature."""

    member: str
    arguments: tuple[tuple[str, str], ...]
    result: str = ""

    @property
    def in_signature(self) -> str:
        """The signature of the call's body."""
        return "".join(signature for _, signature in self.arguments)


_NAME: Final = ("name", "s")
_SETTINGS: Final = ("settings", "a{sv}")

METHODS: Final[Mapping[str, Method]] = {
    method.member: method
    for method in (
        Method("CreateVolume", (_NAME, _SETTINGS), "t"),
        Method("DeleteVolume", (_NAME,)),
        Method("ListVolumes", (), "as"),
        Method("Status", (_NAME,), "s"),
        Method("Map", (_NAME, ("cells", "u")), "s"),
        Method("AttachSnapshot", (_NAME, ("snapshot", "s"), _SETTINGS)),
        Method("DetachSnapshot", (_NAME,)),
        Method("MergeStart", (_NAME,)),
        Method("MergePause", (_NAME,)),
        Method("MergeResume", (_NAME,)),
        Method("MergeCancel", (_NAME,)),
        Method("ReplacePrimary", (_NAME, ("primary", "s"))),
        Method("DeclareLost", (_NAME, _SETTINGS), "t"),
        Method("AcceptOutdated", (_NAME, _SETTINGS), "t"),
        Method("PrepareSnapshot", (_NAME,)),
        Method("RebuildState", (_NAME,), "s"),
        Method("ResyncPause", (_NAME,)),
        Method("ResyncResume", (_NAME,)),
        Method("Resize", (_NAME,), "t"),
        Method("Protect", (_NAME, ("mirror", "s"))),
        Method("Retire", (_NAME, ("forget", "b"))),
        Method("TakeBack", (_NAME,)),
        Method("Verify", (_NAME, ("verb", "s"), ("repair", "s"))),
        Method("LinkDown", (_NAME,)),
    )
}

LIVE_LINK_SETTINGS: Final[Mapping[str, str]] = {
    "portals": "as",
    "interface": "s",
    "source_address": "s",
    "sessions": "u",
    "header_digest": "b",
    "rate_max": "t",
}
"""Settings of the live link; they go into the definition's ``[backup]``."""

CREATE_SETTINGS: Final[Mapping[str, str]] = {
    "primary": "s",
    "backup": "s",
    "credentials": "s",
    "mirror": "s",
    **LIVE_LINK_SETTINGS,
}
"""Settings of CreateVolume and the type of each; *primary* and *backup* are required."""

MIRROR_MODES: Final = ("sync", "async", "strict")
"""What *mirror* may be; the first is the default."""

LINK_SETTINGS: Final[Mapping[str, str]] = {
    **LIVE_LINK_SETTINGS,
    "link_up": "as",
    "link_down": "as",
    "link_timeout_seconds": "u",
}
"""Settings of the bulk link; they go before the definition's ``[snapshot_link]``."""

ATTACH_SETTINGS: Final[Mapping[str, str]] = {
    "credentials": "s",
    "extents": "a(tt)",
    **LINK_SETTINGS,
}
"""Settings of AttachSnapshot; none is required. *extents*: the only bytes that the snapshot covers,
as offsets and lengths."""

LINK_MEMBERS: Final = frozenset(
    {"AttachSnapshot", "DetachSnapshot", "MergeStart", "MergeResume", "MergeCancel", "LinkDown"}
    | {"DeleteVolume"}
)
"""Methods that may wait for link commands, each for its ``link_timeout_seconds``."""

LINK_SECONDS_MAX: Final = 2 * 300.0
"""How long those may take for that: a command that brings up, and one that takes down again."""

VERIFY_VERBS: Final = ("start", "pause", "resume", "cancel")
VERIFY_REPAIRS: Final = ("none", "primary", "backup")
"""What *verb* and *repair* of Verify may be: repair is used by start only; *primary* and *backup*
say which side is right where they differ."""

MAP_CELLS_MAX: Final = 16384
"""What one Map may ask for: a picture of 128 by 128, and half a megabyte of JSON."""

EXTENT_SETTINGS: Final[Mapping[str, str]] = {"offset": "t", "length": "t"}
"""Settings of AcceptOutdated, in bytes; absent: from the start, to the end."""

DECLARE_LOST_SETTINGS: Final[Mapping[str, str]] = {**EXTENT_SETTINGS, "force": "b"}
"""Settings of DeclareLost: an extent, and whether stale regions may become outdated."""


@dataclass(frozen=True, slots=True)
class Property:
    """One read-only property; *announced* as the standard's EmitsChangedSignal has it."""

    name: str
    signature: str
    announced: Literal["true", "false", "const"] = "false"


VOLUME_PROPERTIES: Final[Mapping[str, Property]] = {
    item.name: item
    for item in (
        Property("Name", "s", "const"),
        Property("State", "s", "true"),
        Property("Conditions", "as", "true"),
        Property("Advice", "s", "true"),
        Property("RegionsLost", "t"),
        Property("RegionsStale", "t"),
        Property("RegionsInDoubt", "t"),
        Property("RegionsOutdated", "t"),
        Property("BackupReachable", "b"),
        Property("MergeState", "s"),
    )
}
"""The properties of Volume1. A volume that is not being served has only the first four."""

ANNOUNCED: Final = tuple(
    item.name for item in VOLUME_PROPERTIES.values() if item.announced == "true"
)
"""What PropertiesChanged tells. Counts change all the time: who wants them asks."""


def volume_path(name: str) -> str:
    """Return the object path of a volume: letters and digits stay, ``_`` is ``_5f``, ``-`` ``_2d``.

    Inverse: :func:`volume_name`.
    """
    element = "".join(
        char if char.isascii() and char.isalnum() else f"_{ord(char):02x}" for char in name
    )
    return f"{VOLUMES_PATH}/{element}"


def volume_name(path: str) -> str | None:
    """Return the name of the volume at *path*, or None if no volume can be there."""
    element = path.removeprefix(f"{VOLUMES_PATH}/")
    try:
        name = re.sub("_(..)", lambda match: chr(int(match[1], 16)), element)
    except ValueError:
        return None
    is_canonical = VOLUME_NAME.fullmatch(name) is not None and volume_path(name) == path
    return name if is_canonical else None
