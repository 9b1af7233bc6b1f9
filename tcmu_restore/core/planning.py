"""Turns a byte range into segments: where does each byte come from. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from .extent import Extent
from .geometry import Geometry
from .overwrite_map import OverwriteMap


class SegmentKind(Enum):
    """What the primary has of a segment."""

    CURRENT = "current"
    LOST = "lost"
    OUTDATED = "outdated"


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of bytes of one kind."""

    kind: SegmentKind
    extent: Extent


def plan_read(overwrite_map: OverwriteMap, geometry: Geometry, extent: Extent) -> list[Segment]:
    """Return the segments of *extent*, in order and covering it exactly."""
    regions = geometry.regions(extent)
    if overwrite_map.is_current(regions):
        return [Segment(SegmentKind.CURRENT, extent)]
    return list(_segments(overwrite_map, geometry, extent))


def _segments(overwrite_map: OverwriteMap, geometry: Geometry, extent: Extent) -> Iterator[Segment]:
    regions = geometry.regions(extent)
    lost = overwrite_map.lost_in(regions)
    outdated = overwrite_map.sets.outdated

    def kind_of(region: int) -> SegmentKind:
        if region not in lost:
            return SegmentKind.CURRENT
        return SegmentKind.OUTDATED if region in outdated else SegmentKind.LOST

    start, kind = regions.start, kind_of(regions.start)
    for region in [*regions[1:], regions.stop]:
        following = kind_of(region) if region < regions.stop else None
        if following is kind:
            continue
        part = geometry.extent_of(range(start, region)).intersection(extent)
        assert part is not None
        yield Segment(kind, part)
        if following is not None:
            start, kind = region, following
