"""What happened when: the demo's events by the host's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Events:
    """Names with the host's wall-clock time, in the order in which they were noted."""

    say: Callable[[str], None]
    times: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, moment: float | None = None) -> None:
        """Note that something happened, now or at a moment that was measured elsewhere."""
        self.times[name] = time.time() if moment is None else moment
        self.say(name)

    def relative_to(self, origin: str) -> dict[str, float]:
        """Return seconds after the event *origin*, by name, earliest first."""
        start = self.times[origin]
        ordered = sorted(self.times.items(), key=lambda item: item[1])
        return {name: round(moment - start, 3) for name, moment in ordered}
