"""What an attached snapshot covers: the extents an admin names, checked, and a status of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..core.extent import Extent, coalesce
from ..core.geometry import Geometry
from ..core.selection import Selection, select
from ..errors import BadSettingError, OutOfRangeError

EXTENTS_MAX: Final = 4096
"""Kept as one fact, about 100 KiB; a data set in more pieces is better merged as a whole."""

EXTENTS_SHOWN: Final = 100
"""How many a status lists; it counts the bytes of all."""


def check_extents(
    geometry: Geometry, extents: Sequence[tuple[int, int]] | None
) -> list[list[int]] | None:
    """Return *extents* (offset and length in bytes) as few and in order; None: all of the volume.

    Raises:
        OutOfRangeError: one is not the volume's.
        BadSettingError: one is empty, there are too many, or they hold no whole region.
    """
    if extents is None:
        return None
    if len(extents) > EXTENTS_MAX:
        raise BadSettingError("extents", f"{len(extents)} of them", f"{EXTENTS_MAX} are possible")
    for offset, length in extents:
        if length <= 0 or offset < 0:
            raise BadSettingError("extents", f"{offset}:{length}", "a length must be at least 1")
        if offset + length > geometry.size:
            raise OutOfRangeError(offset, length, geometry.size)
    found = coalesce(Extent(offset, length) for offset, length in extents)
    if not select(geometry, found).count:
        reason = f"none of them holds a whole region of {geometry.region_size} bytes"
        raise BadSettingError("extents", f"{len(extents)} of them", reason)
    return [[extent.offset, extent.length] for extent in found]


def describe_extents(
    record: dict[str, Any], selection: Selection, geometry: Geometry
) -> dict[str, Any]:
    """Return what a status says of the part that a snapshot covers; sizes are bytes."""
    extents = record.get("extents")
    return {
        "extents": None if extents is None else extents[:EXTENTS_SHOWN],
        "bytes_covered": min(selection.count * geometry.region_size, geometry.size),
    }
