"""Manager1: what each method of the D-Bus interface does with the registry.

No bus here: arguments come in decoded, results go out as a message body. Errors pass through; the
server translates them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypedDict

from dbus_fast import Variant

from ..errors import BadSettingError
from .contract import (
    ATTACH_SETTINGS,
    CREATE_SETTINGS,
    DECLARE_LOST_SETTINGS,
    EXTENT_SETTINGS,
    LINK_SETTINGS,
    MAP_CELLS_MAX,
    METHODS,
    MIRROR_MODES,
    VERIFY_REPAIRS,
    VERIFY_VERBS,
)
from .registry_seam import Registry

_KINDS: Final = {
    "s": "a text",
    "as": "a list of texts",
    "b": "a boolean",
    "u": "a number (D-Bus type u)",
    "t": "a number of bytes (D-Bus type t)",
    "a(tt)": "a list of offsets and lengths (D-Bus type a(tt))",
}


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


class _Extent(TypedDict):
    offset: int
    length: int | None


def _parse_extent(values: Mapping[str, Any]) -> _Extent:
    """Return an extent in bytes; an empty one is more likely a slip than a wish."""
    length = values.get("length")
    if length == 0:
        raise BadSettingError("length", "0", "it must be at least 1; without it all to the end")
    return {"offset": values.get("offset", 0), "length": length}


def _parse_mirror(values: Mapping[str, Any]) -> str:
    mirror = str(values.get("mirror", MIRROR_MODES[0]))
    if mirror not in MIRROR_MODES:
        raise BadSettingError("mirror", mirror, f"it must be one of {', '.join(MIRROR_MODES)}")
    return mirror


def _link(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in LINK_SETTINGS if key in values}


class Manager:
    """The methods of Manager1 over one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._methods: Mapping[str, Callable[..., Awaitable[list[Any]]]] = {
            "CreateVolume": self._create_volume,
            "ListVolumes": self._list_volumes,
            "Status": self._status,
            "Map": self._map,
            "Verify": self._verify,
            "AttachSnapshot": self._attach_snapshot,
            "ReplacePrimary": self._replace_primary,
            "DeclareLost": self._declare_lost,
            "AcceptOutdated": self._accept_outdated,
            "RebuildState": self._rebuild_state,
            "Resize": self._resize,
            "Protect": self._protect,
            "Retire": self._retire,
            "TakeBack": self._plain(registry.take_back),
            "DeleteVolume": self._plain(registry.delete_volume),
            "DetachSnapshot": self._plain(registry.detach_snapshot),
            "MergeStart": self._plain(registry.merge_start),
            "MergePause": self._plain(registry.merge_pause),
            "MergeResume": self._plain(registry.merge_resume),
            "MergeCancel": self._plain(registry.merge_cancel),
            "PrepareSnapshot": self._plain(registry.prepare_snapshot),
            "LinkDown": self._plain(registry.link_down),
            "ResyncPause": self._plain(registry.resync_pause),
            "ResyncResume": self._plain(registry.resync_resume),
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
            mirror=_parse_mirror(values),
            link=_link(values),
        )
        return [size]

    async def _list_volumes(self) -> list[Any]:
        return [self._registry.list_volumes()]

    async def _status(self, name: str) -> list[Any]:
        return [json.dumps(self._registry.status(name))]

    async def _map(self, name: str, cells: int) -> list[Any]:
        if not 1 <= cells <= MAP_CELLS_MAX:
            reason = f"it must be from 1 to {MAP_CELLS_MAX}"
            raise BadSettingError("cells", str(cells), reason)
        return [json.dumps(await self._registry.map(name, cells))]

    async def _verify(self, name: str, verb: str, repair: str) -> list[Any]:
        for setting, word, known in (
            ("verb", verb, VERIFY_VERBS),
            ("repair", repair, VERIFY_REPAIRS),
        ):
            if word not in known:
                raise BadSettingError(setting, word, f"it must be one of {', '.join(known)}")
        await self._registry.verify(name, verb, repair=repair)
        return []

    async def _attach_snapshot(
        self, name: str, snapshot: str, settings: Mapping[str, Variant]
    ) -> list[Any]:
        values = parse_settings(settings, ATTACH_SETTINGS)
        extents = values.get("extents")
        await self._registry.attach_snapshot(
            name,
            snapshot,
            credentials=values.get("credentials"),
            extents=None if extents is None else [(offset, length) for offset, length in extents],
            link=_link(values),
        )
        return []

    async def _replace_primary(self, name: str, primary: str) -> list[Any]:
        await self._registry.replace_primary(name, _require({"primary": primary}, "primary"))
        return []

    async def _declare_lost(self, name: str, settings: Mapping[str, Variant]) -> list[Any]:
        values = parse_settings(settings, DECLARE_LOST_SETTINGS)
        extent = _parse_extent(values)
        force = values.get("force", False)
        return [await self._registry.declare_lost(name, **extent, force=force)]

    async def _accept_outdated(self, name: str, settings: Mapping[str, Variant]) -> list[Any]:
        extent = _parse_extent(parse_settings(settings, EXTENT_SETTINGS))
        return [await self._registry.accept_outdated(name, **extent)]

    async def _rebuild_state(self, name: str) -> list[Any]:
        return [await self._registry.rebuild_state(name)]

    async def _resize(self, name: str) -> list[Any]:
        return [await self._registry.resize(name)]

    async def _protect(self, name: str, mirror: str) -> list[Any]:
        await self._registry.protect(name, mirror=_parse_mirror({"mirror": mirror}))
        return []

    async def _retire(self, name: str, forget: bool) -> list[Any]:
        await self._registry.retire(name, forget=forget)
        return []
