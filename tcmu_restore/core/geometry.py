"""Converts between bytes, regions and zones. The only place that does.

A region or zone is named by its index. The last one may be shorter than the
others, where the volume's size is not a multiple; it counts as wholly covered
when an extent reaches the volume's end.
"""

from __future__ import annotations

from dataclasses import dataclass

from .extent import Extent


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of one volume, all in bytes."""

    size: int
    block_size: int
    region_size: int
    zone_size: int

    def __post_init__(self) -> None:
        assert _is_power_of_two(self.block_size)
        assert _is_power_of_two(self.region_size)
        assert _is_power_of_two(self.zone_size)
        assert self.block_size <= self.region_size <= self.zone_size
        assert self.size > 0
        assert self.size % self.block_size == 0

    @property
    def region_count(self) -> int:
        """The number of regions, a shorter last one included."""
        return -(-self.size // self.region_size)

    @property
    def zone_count(self) -> int:
        """The number of zones, a shorter last one included."""
        return -(-self.size // self.zone_size)

    @property
    def whole(self) -> Extent:
        """Every byte of the volume."""
        return Extent(0, self.size)

    def regions(self, extent: Extent) -> range:
        """Return the indices of the regions that *extent* touches."""
        return range(extent.offset // self.region_size, -(-extent.end // self.region_size))

    def whole_regions(self, extent: Extent) -> range:
        """Return the indices of the regions that *extent* covers wholly; it may be empty."""
        first = -(-extent.offset // self.region_size)
        at_end = extent.end == self.size
        stop = self.region_count if at_end else extent.end // self.region_size
        return range(first, max(first, stop))

    def extent_of(self, regions: range) -> Extent:
        """Return the bytes of *regions* (a step of one, not empty)."""
        offset = regions.start * self.region_size
        return Extent(offset, min(regions.stop * self.region_size, self.size) - offset)

    def align_out(self, extent: Extent) -> Extent:
        """Return the smallest run of whole regions that holds *extent*."""
        return self.extent_of(self.regions(extent))

    def zones(self, extent: Extent) -> range:
        """Return the indices of the zones that *extent* touches."""
        return range(extent.offset // self.zone_size, -(-extent.end // self.zone_size))

    def regions_of_zone(self, zone: int) -> range:
        """Return the indices of the regions in *zone*."""
        per_zone = self.zone_size // self.region_size
        return range(zone * per_zone, min((zone + 1) * per_zone, self.region_count))
