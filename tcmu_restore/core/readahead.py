"""How far to extend a fetch: more with each read in sequence, nothing for random reads."""

from __future__ import annotations

from .extent import Extent

START = 64 * 1024
"""The first extension; below it a round trip costs more than the bytes."""

STREAMS = 4
"""How many sequential readers are told apart."""


class Readahead:
    """Remembers where recent reads of lost regions ended."""

    def __init__(self, length_max: int) -> None:
        self.length_max = length_max
        """The longest extension now; a slow source makes it shorter."""
        self._windows: dict[int, int] = {}  # end of a stream's last read -> its window

    def extension(self, extent: Extent) -> int:
        """Return how many bytes to fetch beyond *extent*, which a host reads now."""
        window = self._windows.pop(extent.offset, None)
        grown = 0 if window is None else min(max(2 * window, START), self.length_max)
        self._windows[extent.end] = grown
        while len(self._windows) > STREAMS:
            del self._windows[next(iter(self._windows))]
        return grown
