"""The resync of one volume: sends stale regions to the backup by itself, paced and resumable."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ..core.effects import Procedure
from ..core.extent import Extent
from ..core.pacing import Pace
from ..core.resync import plan_resync_step
from ..core.volume import Volume
from .driver import Driver
from .step_pump import StepPump


class ResyncState(Enum):
    """What the job is doing."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"


class ResyncJob:
    """Nothing is kept over a restart: the overwrite map says what is still stale."""

    def __init__(self, volume: Volume, driver: Driver, pacer: Pace) -> None:
        self._volume = volume
        self._pump = StepPump(self, driver, pacer, volume.state.geometry)

    # --- what the pump does -----------------------------------------------------------------

    def plan(self, cursor: int, length_max: int) -> Extent | None:
        """Return the first stale run from *cursor* on."""
        return plan_resync_step(self._volume.state, cursor, length_max)

    def step(self, extent: Extent) -> Procedure[None]:
        """Return the procedure that sends *extent*."""
        return self._volume.resync_step(extent)

    def pass_ended(self) -> bool:
        """Begin again: something may have come to be stale before the cursor."""
        return True

    # --- verbs ----------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """Whether the admin holds it back."""
        return self._pump.is_paused

    def kick(self) -> None:
        """The backup is reachable, or something came to be stale: go on if there is work."""
        self._pump.kick()

    def backup_returned(self) -> None:
        """Do not wait for the timer of a failure."""
        self._pump.retry_now()

    def pause(self) -> None:
        """Begin no further step until ``resume``."""
        self._pump.is_paused = True

    def resume(self) -> None:
        """Go on."""
        self._pump.is_paused = False
        self._pump.kick()

    def stop(self) -> None:
        """Begin no further step; the volume is being closed."""
        self._pump.stop()

    def status(self) -> dict[str, Any]:
        """Return the resync's part of the status document. Sizes are bytes."""
        state = self._volume.state
        left = len(state.overwrite_map.sets.stale) * state.geometry.region_size
        rate = self._pump.rate
        return {
            "state": self._word(left).value,
            "reason": self._pump.reason,
            "bytes_left": left,
            "rate_bytes_per_second": rate,
            "seconds_left": left / rate if rate > 0 and left else None,
        }

    def _word(self, left: int) -> ResyncState:
        if not left:
            return ResyncState.IDLE
        if self._pump.is_paused:
            return ResyncState.PAUSED
        idle = self._pump.reason or not self._pump.is_in_flight
        return ResyncState.WAITING if idle else ResyncState.RUNNING
