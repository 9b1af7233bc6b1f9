"""What goes over the bus: the methods of Manager1, their signatures, and the error names' prefix.

The service answers by this table and the clients call by it, so the two cannot drift apart. No
I/O and no D-Bus library here; anybody may import this module from any thread.

Names follow the D-Bus habit: a change that breaks a caller gets a new interface (``Manager2``), a
new method or a new setting does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import quoteattr

from ..options import DBUS_MANAGER, DBUS_PATH

ERROR_PREFIX: Final = "org.tcmu_restore.Error."
INTERNAL_ERROR: Final = ERROR_PREFIX + "Internal"
ACCESS_DENIED: Final = "org.freedesktop.DBus.Error.AccessDenied"

INTROSPECTABLE: Final = "org.freedesktop.DBus.Introspectable"

STATE_CHANGED: Final = "StateChanged"
STATE_CHANGED_SIGNATURE: Final = "ss"


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
        Method("AttachSnapshot", (_NAME, ("snapshot", "s"), _SETTINGS)),
        Method("DetachSnapshot", (_NAME,)),
        Method("MergeStart", (_NAME,)),
        Method("MergePause", (_NAME,)),
        Method("MergeResume", (_NAME,)),
        Method("MergeCancel", (_NAME,)),
    )
}

CREATE_SETTINGS: Final[Mapping[str, str]] = {
    "primary": "s",
    "backup": "s",
    "credentials": "s",
    "header_digest": "b",
}
"""Settings of CreateVolume and the type of each; *primary* and *backup* are required."""

ATTACH_SETTINGS: Final[Mapping[str, str]] = {"credentials": "s"}
"""Settings of AttachSnapshot; none is required."""


def introspect(path: str) -> str | None:
    """Return the introspection XML of *path*, or None if nothing of ours is at or below it."""
    if path == DBUS_PATH:
        return _document(_interface())
    prefix = path.rstrip("/") + "/"
    if not DBUS_PATH.startswith(prefix):
        return None
    child = DBUS_PATH.removeprefix(prefix).partition("/")[0]
    return _document(f"<node name={quoteattr(child)}/>")


def _document(content: str) -> str:
    doctype = (
        '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
        '"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">'
    )
    return f"{doctype}\n<node>\n{content}\n</node>\n"


def _interface() -> str:
    introspectable = _element(INTROSPECTABLE, [_method(Method("Introspect", (), "s"))])
    signal = "".join(f'<arg name="{name}" type="s"/>' for name in ("name", "state"))
    members = [_method(method) for method in METHODS.values()]
    members.append(f'<signal name="{STATE_CHANGED}">{signal}</signal>')
    return introspectable + "\n" + _element(DBUS_MANAGER, members)


def _element(name: str, members: list[str]) -> str:
    return "\n".join([f'<interface name="{name}">', *members, "</interface>"])


def _method(method: Method) -> str:
    arguments = [
        f'<arg name="{name}" type="{signature}" direction="in"/>'
        for name, signature in method.arguments
    ]
    if method.result:
        arguments.append(f'<arg type="{method.result}" direction="out"/>')
    return f'<method name="{method.member}">{"".join(arguments)}</method>'
