"""The write-intent log: zones with writes that may be on one side only.

INT-1: before the first write to a zone is sent to either side, the zone is
armed durably. It is disarmed lazily, when no write is in flight and all of it
is flushed and committed on both sides, so one commit serves thousands of writes.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap64

from .geometry import Geometry
from .overwrite_map import OverwriteMap


class IntentLog:
    """Which zones are armed, and what is in flight in them."""

    def __init__(self, armed: Iterable[int] = ()) -> None:
        self._armed = set(armed)
        self._in_flight: dict[int, int] = {}
        self._busy_since_sweep: set[int] = set()

    @property
    def armed(self) -> frozenset[int]:
        """Every zone that is durably armed."""
        return frozenset(self._armed)

    def begin_write(self, zones: range) -> tuple[int, ...]:
        """Count a write to *zones* as in flight; return those still to be armed durably."""
        for zone in zones:
            self._in_flight[zone] = self._in_flight.get(zone, 0) + 1
            self._busy_since_sweep.add(zone)
        return tuple(zone for zone in zones if zone not in self._armed)

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
        self._armed.update(zones)

    def is_armed(self, zones: range) -> bool:
        """Return whether all of *zones* are durably armed."""
        return all(zone in self._armed for zone in zones)

    def sweep(self) -> frozenset[int]:
        """Return the armed zones without a write since the last sweep; start counting anew."""
        idle = frozenset(self._armed - self._busy_since_sweep - self._in_flight.keys())
        self._busy_since_sweep = set(self._in_flight)
        return idle

    def forget_idle(self, zones: Iterable[int]) -> tuple[int, ...]:
        """Disarm in memory those of *zones* with no write since ``sweep``; return them.

        To be done before their disarming is committed: a write that comes later then arms its
        zone again, and its commit follows the disarming one.
        """
        idle = tuple(sorted(set(zones) & self._armed - self._busy_since_sweep))
        self._armed.difference_update(idle)
        return idle


def recover_after_unclean_stop(
    armed: Iterable[int], overwrite_map: OverwriteMap, geometry: Geometry
) -> None:
    """Mark what an unclean stop left uncertain (INT-2).

    In every armed zone current regions become stale (the two legs may differ) and lost ones in
    doubt (the backup may hold a write that no snapshot has).
    """
    for zone in armed:
        regions = BitMap64(geometry.regions_of_zone(zone))
        overwrite_map.mark_stale(regions)
        overwrite_map.mark_in_doubt(regions)
