"""The introspection XML of every object: made from the contract's tables, so it cannot lie.

Pure: paths and names in, text out. Which volumes there are is the caller's to say, and who may
know it is the caller's to check.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from xml.sax.saxutils import quoteattr

from ..options import DBUS_MANAGER, DBUS_PATH
from . import contract
from .contract import Method, Property

_DOCTYPE: Final = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    '"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">'
)

_EMITS_CHANGED: Final = "org.freedesktop.DBus.Property.EmitsChangedSignal"


def introspect(path: str) -> str | None:
    """Return the XML of *path* if it depends on no volume, else None."""
    if path == DBUS_PATH:
        children = [contract.VOLUMES_PATH.removeprefix(f"{DBUS_PATH}/")]
        return _document(_introspectable(), _manager(), *_nodes(children))
    prefix = path.rstrip("/") + "/"
    if not DBUS_PATH.startswith(prefix):
        return None
    return _document(*_nodes([DBUS_PATH.removeprefix(prefix).partition("/")[0]]))


def introspect_volumes(names: Iterable[str]) -> str:
    """Return the XML of the object that has one child per volume of *names*."""
    prefix = f"{contract.VOLUMES_PATH}/"
    elements = [contract.volume_path(name).removeprefix(prefix) for name in names]
    return _document(_introspectable(), *_nodes(elements))


def introspect_volume() -> str:
    """Return the XML of one volume; every volume has the same."""
    return _document(_introspectable(), _properties(), _volume())


def _document(*content: str) -> str:
    return "\n".join([_DOCTYPE, "<node>", *content, "</node>", ""])


def _nodes(elements: Iterable[str]) -> list[str]:
    return [f"<node name={quoteattr(element)}/>" for element in elements]


def _introspectable() -> str:
    return _interface(contract.INTROSPECTABLE, [_method(Method("Introspect", (), "s"))])


def _manager() -> str:
    members = [_method(method) for method in contract.METHODS.values()]
    members.append(_signal(contract.STATE_CHANGED, (("name", "s"), ("state", "s"))))
    return _interface(DBUS_MANAGER, members)


def _properties() -> str:
    interface, name = ("interface_name", "s"), ("property_name", "s")
    changed = (interface, ("changed_properties", "a{sv}"), ("invalidated_properties", "as"))
    members = [
        _method(Method("Get", (interface, name), "v")),
        _method(Method("GetAll", (interface,), "a{sv}")),
        _method(Method("Set", (interface, name, ("value", "v")))),
        _signal(contract.PROPERTIES_CHANGED, changed),
    ]
    return _interface(contract.PROPERTIES, members)


def _volume() -> str:
    members = [_property(item) for item in contract.VOLUME_PROPERTIES.values()]
    return _interface(contract.VOLUME_INTERFACE, members)


def _interface(name: str, members: list[str]) -> str:
    return "\n".join([f'<interface name="{name}">', *members, "</interface>"])


def _method(method: Method) -> str:
    arguments = [
        f'<arg name="{name}" type="{signature}" direction="in"/>'
        for name, signature in method.arguments
    ]
    if method.result:
        arguments.append(f'<arg type="{method.result}" direction="out"/>')
    return f'<method name="{method.member}">{"".join(arguments)}</method>'


def _signal(member: str, arguments: Iterable[tuple[str, str]]) -> str:
    content = "".join(f'<arg name="{name}" type="{signature}"/>' for name, signature in arguments)
    return f'<signal name="{member}">{content}</signal>'


def _property(item: Property) -> str:
    note = f'<annotation name="{_EMITS_CHANGED}" value="{item.announced}"/>'
    return f'<property name="{item.name}" type="{item.signature}" access="read">{note}</property>'
