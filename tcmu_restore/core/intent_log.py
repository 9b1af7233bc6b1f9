"""The write-intent log: zones with writes that may be on one side only.

INT-1: before the first write to a zone is sent to either side, the zone is
armed durably. It is disarmed lazily, when no write is in flight and all of it
is flushed and committed on both sides, so one commit serves thousands of writes.

Zones stay armed while the volume is written to, up to ``armed_max`` of them; the
least recently written ones give way. Where zone after zone has to be armed,
neighbours are armed along with it: random writes over gigabytes cost a few
dozen commits and then none.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap64

from .geometry import Geometry
from .overwrite_map import OverwriteMap

ARMED_MAX = 1024
"""Zones, 4 GiB by default: what an unclean stop makes stale at most, give or take one checkpoint
interval."""

GROUP_MAX = 64
"""Zones armed by one commit, at most: 256 MiB by default."""

FEW_WRITES = 64
"""If fewer writes than this came since the last arming, the next one takes twice as many zones."""


class IntentLog:
    """Which zones are armed, and what is in flight in them."""

    def __init__(
        self,
        armed: Iterable[int] = (),
        *,
        zone_count: int,
        armed_max: int = ARMED_MAX,
        group_max: int = GROUP_MAX,
    ) -> None:
        self._armed = dict.fromkeys(sorted(armed))
        """In the order in which they were last written."""
        self._zone_count = zone_count
        self._armed_max = armed_max
        self._group_max = group_max
        self._group = 1
        self._writes_since_arming = FEW_WRITES
        self._in_flight: dict[int, int] = {}
        self._busy_since_sweep: set[int] = set()

    @property
    def armed(self) -> frozenset[int]:
        """Every zone that is durably armed."""
        return frozenset(self._armed)

    def grow(self, zone_count: int) -> None:
        """The volume has grown to so many zones."""
        assert zone_count >= self._zone_count
        self._zone_count = zone_count

    def begin_write(self, zones: range) -> tuple[int, ...]:
        """Count a write to *zones* as in flight; return those still to be armed durably."""
        self._writes_since_arming += 1
        for zone in zones:
            self._in_flight[zone] = self._in_flight.get(zone, 0) + 1
            self._busy_since_sweep.add(zone)
            if zone in self._armed:
                del self._armed[zone]
                self._armed[zone] = None
        unarmed = [zone for zone in zones if zone not in self._armed]
        return self._with_neighbours(unarmed) if unarmed else ()

    def _with_neighbours(self, unarmed: list[int]) -> tuple[int, ...]:
        """Arm in growing groups while armings follow each other closely."""
        few = self._writes_since_arming < FEW_WRITES
        self._group = min(self._group * 2, self._group_max) if few else max(self._group // 2, 1)
        self._writes_since_arming = 0
        if len(self._armed) + self._group > self._armed_max:
            self._group = 1
        found = set(unarmed)
        for zone in unarmed:
            first = zone - zone % self._group
            found.update(range(first, min(first + self._group, self._zone_count)))
        return tuple(sorted(found - self._armed.keys()))

    def end_write(self, zones: range) -> None:
        """The write is over, whatever came of it."""
        for zone in zones:
            left = self._in_flight[zone] - 1
            assert left >= 0
            if left:
                self._in_flight[zone] = left
            else:
                del self._in_flight[zone]

    def mark_armed(self, zones: Iterable[int]) -> None:
        """The commit that arms *zones* is durable."""
        self._armed.update(dict.fromkeys(zones))

    def is_armed(self, zones: range) -> bool:
        """Return whether all of *zones* are durably armed."""
        return all(zone in self._armed for zone in zones)

    def sweep(self) -> frozenset[int]:
        """Return the armed zones that may be disarmed; start counting writes anew.

        All of them if there was no write since the last sweep, else the least recently written
        beyond ``armed_max``; never one with a write since the last sweep.
        """
        idle = [zone for zone in self._armed if zone not in self._busy_since_sweep]
        if self._busy_since_sweep:
            idle = idle[: max(0, len(self._armed) - self._armed_max)]
        else:
            self._group, self._writes_since_arming = 1, FEW_WRITES
        self._busy_since_sweep = set(self._in_flight)
        return frozenset(idle)

    def forget_idle(self, zones: Iterable[int]) -> tuple[int, ...]:
        """Disarm in memory those of *zones* with no write since ``sweep``; return them.

        To be done before their disarming is committed: a write that comes later then arms its
        zone again, and its commit follows the disarming one.
        """
        idle = tuple(sorted(set(zones) & self._armed.keys() - self._busy_since_sweep))
        for zone in idle:
            del self._armed[zone]
        return idle


def recover_after_unclean_stop(
    armed: Iterable[int], overwrite_map: OverwriteMap, geometry: Geometry
) -> None:
    """Mark what an unclean stop left uncertain (INT-2).

    In every armed zone current regions become stale (the two legs may differ) and host-written (a
    write may have come that no commit told of), and lost ones in doubt (the backup may hold a write
    that no snapshot has). What a failed primary keeps of them is not to be used any more, but for
    what is outdated: nobody else has that.
    """
    for zone in armed:
        regions = BitMap64(geometry.regions_of_zone(zone))
        overwrite_map.mark_perhaps_written(regions)
        overwrite_map.forget_kept(regions - overwrite_map.sets.outdated)
