"""Volume1: the read-only properties of one volume, made of its status.

No bus here, as in ``interface``: names come in, Variants go out. What the status does not say has
no property: a volume that is not being served has no counts, and none are made up for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from dbus_fast import DBusError, ErrorType, Variant

from ..errors import RestoreError, VolumeNotOpenError
from ..log_line import log_line
from .contract import ANNOUNCED, VOLUME_INTERFACE, VOLUME_PROPERTIES
from .registry_seam import Registry

_LOG: Final = logging.getLogger(__name__)


def read_properties(status: Mapping[str, Any]) -> dict[str, Variant]:
    """Return the properties that *status*, a VolumeStatus, has values for."""
    values: dict[str, Any] = {
        "Name": status["volume"],
        "State": status["state"],
        "Conditions": [condition["name"] for condition in status.get("conditions", ())]
        or [status["state"]],
        "Advice": status["advice"],
    }
    if "regions" in status:
        regions = status["regions"]
        values |= {
            "RegionsLost": regions["lost"],
            "RegionsStale": regions["stale"],
            "RegionsInDoubt": regions["in_doubt"],
            "RegionsOutdated": regions.get("outdated", 0),
            "BackupReachable": status["backup"]["reachable"],
            "MergeState": status["merge"]["state"],
        }
        assert values.keys() == VOLUME_PROPERTIES.keys(), "a property of the contract has no value"
    return {name: Variant(VOLUME_PROPERTIES[name].signature, values[name]) for name in values}


class VolumeObjects:
    """Every volume's object over one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._announced: dict[str, dict[str, Variant]] = {}

    async def call(self, name: str, member: str, arguments: list[Any]) -> list[Any]:
        """Run Get, GetAll or Set of the volume *name* and return the body of the reply.

        Raises:
            UnknownVolumeError: There is no such volume.
            VolumeNotOpenError: The property has no value as long as the volume is not served.
            DBusError: The interface or the property is unknown, or it was to be set.
        """
        interface, *rest = arguments
        properties = read_properties(self._registry.status(name))
        if interface not in ("", VOLUME_INTERFACE):
            raise DBusError(ErrorType.UNKNOWN_INTERFACE, f"There is no interface {interface!r}.")
        if member == "GetAll":
            return [properties]
        if rest[0] not in VOLUME_PROPERTIES:
            raise DBusError(ErrorType.UNKNOWN_PROPERTY, f"There is no property {rest[0]!r}.")
        if member == "Set":
            raise DBusError(ErrorType.PROPERTY_READ_ONLY, f"{rest[0]} cannot be set.")
        if rest[0] not in properties:
            raise VolumeNotOpenError(name)
        return [properties[rest[0]]]

    def news(self, name: str, state: str) -> tuple[dict[str, Variant], list[str]] | None:
        """Return what PropertiesChanged is to tell: values and invalidated names, or None.

        Never raises: this runs within the engine. A status that cannot be read leaves *state*,
        and the rest invalidated, so that whoever cares asks, and gets the error.
        """
        properties = {"State": Variant("s", state)}
        try:
            properties = read_properties(self._registry.status(name))
        except RestoreError as error:
            sentence = f"its status cannot be told: {error}"
            _LOG.info(log_line(sentence, volume=name, operation="status"))
        except Exception:  # noqa: BLE001 - a mistake of ours must not end the engine's work
            line = log_line("its status cannot be told", volume=name, operation="status")
            _LOG.exception(line)
        values = {key: properties[key] for key in ANNOUNCED if key in properties}
        if self._announced.get(name) == values:
            return None
        self._announced[name] = values
        return values, [key for key in ANNOUNCED if key not in values]
