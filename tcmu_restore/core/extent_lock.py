"""Who may touch which bytes: exclusive locks on extents, first come first served.

A request waits while it overlaps one that was made before it by another owner,
granted or not: so a stream of small locks cannot starve a large one. Requests
of one owner never wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .extent import Extent
from .gate import Gate

COMMIT = Extent(1 << 62, 1)
"""Taken by whoever commits the map, one at a time (rule MAP-3); no volume has that byte."""


@dataclass(slots=True, eq=False)
class Held:
    """One lock: granted once its gate is open."""

    extent: Extent
    owner: object
    granted: Gate = field(default_factory=Gate)


class ExtentLocks:
    """The locks of one volume, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._requests: list[Held] = []

    def __len__(self) -> int:
        return len(self._requests)

    def request(self, extent: Extent, owner: object) -> Held:
        """Ask for *extent*; the lock is held when ``granted`` of the answer is open."""
        held = Held(extent, owner)
        if not self._is_blocked(held, len(self._requests)):
            held.granted.open()
        self._requests.append(held)
        return held

    def release(self, held: Held) -> None:
        """Give *held* back, granted or not, and grant what waited only for it."""
        self._requests.remove(held)
        freed = [
            waiting
            for index, waiting in enumerate(self._requests)
            if not waiting.granted.is_open
            and waiting.extent.overlaps(held.extent)
            and not self._is_blocked(waiting, index)
        ]
        for waiting in freed:
            waiting.granted.open()

    def _is_blocked(self, held: Held, index: int) -> bool:
        return any(
            earlier.owner is not held.owner and earlier.extent.overlaps(held.extent)
            for earlier in self._requests[:index]
        )
