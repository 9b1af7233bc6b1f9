"""Manager1: what each method of the D-Bus interface does with the registry.

No bus here: arguments come in decoded, results go out as a message body. Errors pass through; the
server translates them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from dbus_fast import Variant

from ..errors import BadSettingError
from .contract import ATTACH_SETTINGS, CREATE_SETTINGS, METHODS
from .registry_seam import Registry

_KINDS: Final = {"s": "a text", "b": "a boolean"}


def parse_settings(settings: Mapping[str, Variant], known: Mapping[str, str]) -> dict[str, Any]:
    """Return the plain values of an ``a{sv}``.

    Raises:
        BadSettingError: A setting is unknown or of another type. Retrying won't help.
    """
    for key, variant in settings.items():
        if key not in known:
            raise BadSettingError(key, str(variant.value), "there is no such setting")
        if variant.signature != known[key]:
            raise BadSettingError(key, str(variant.value), f"it must be {_KINDS[known[key]]}")
    return {key: variant.value for key, variant in settings.items()}


def _require(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key, "")
    if not value:
        raise BadSettingError(key, "", "it is required")
    return str(value)


class Manager:
    """The methods of Manager1 over one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._methods: Mapping[str, Callable[..., Awaitable[list[Any]]]] = {
            "CreateVolume": self._create_volume,
            "ListVolumes": self._list_volumes,
            "Status": self._status,
            "AttachSnapshot": self._attach_snapshot,
            "DeleteVolume": self._plain(registry.delete_volume),
            "DetachSnapshot": self._plain(registry.detach_snapshot),
            "MergeStart": self._plain(registry.merge_start),
            "MergePause": self._plain(registry.merge_pause),
            "MergeResume": self._plain(registry.merge_resume),
            "MergeCancel": self._plain(registry.merge_cancel),
        }
        assert self._methods.keys() == METHODS.keys(), "a method of the contract has no code"

    async def call(self, member: str, arguments: list[Any]) -> list[Any]:
        """Run one method of the contract and return the body of its reply."""
        return await self._methods[member](*arguments)

    @staticmethod
    def _plain(verb: Callable[[str], Awaitable[None]]) -> Callable[..., Awaitable[list[Any]]]:
        async def call(name: str) -> list[Any]:
            await verb(name)
            return []

        return call

    async def _create_volume(self, name: str, settings: Mapping[str, Variant]) -> list[Any]:
        values = parse_settings(settings, CREATE_SETTINGS)
        size = await self._registry.create_volume(
            name,
            primary=_require(values, "primary"),
            backup=_require(values, "backup"),
            credentials=values.get("credentials"),
            header_digest=values.get("header_digest", False),
        )
        return [size]

    async def _list_volumes(self) -> list[Any]:
        return [self._registry.list_volumes()]

    async def _status(self, name: str) -> list[Any]:
        return [json.dumps(self._registry.status(name))]

    async def _attach_snapshot(
        self, name: str, snapshot: str, settings: Mapping[str, Variant]
    ) -> list[Any]:
        values = parse_settings(settings, ATTACH_SETTINGS)
        await self._registry.attach_snapshot(name, snapshot, credentials=values.get("credentials"))
        return []
