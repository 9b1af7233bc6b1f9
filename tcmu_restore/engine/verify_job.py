"""The verification of one volume: compares primary and backup online, paced and resumable."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from itertools import islice
from typing import Any

from pyroaring import BitMap64

from ..core.effects import Procedure
from ..core.extent import Extent
from ..core.pacing import Pace
from ..core.region_sets import runs_of
from ..core.verify import Repair, plan_verify_step
from ..core.volume import Volume
from .driver import Driver
from .step_pump import StepPump

EXTENTS_MAX = 100
"""How many differing extents a status lists; all are counted."""


class VerifyState(Enum):
    """What the job is doing."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"


class VerifyJob:
    """One pass over what both sides must hold alike; a restart goes on where it was."""

    def __init__(
        self, volume: Volume, driver: Driver, pacer: Pace, *, on_change: Callable[[], None]
    ) -> None:
        self.state = VerifyState.IDLE
        self._volume = volume
        self._on_change = on_change
        self._pump = StepPump(self, driver, pacer, volume.state.geometry)
        self._repair = Repair.NONE
        self._found = BitMap64()

    # --- what the pump does -----------------------------------------------------------------

    def plan(self, cursor: int, length_max: int) -> Extent | None:
        """Return the next extent to compare; at the end the job is done."""
        if self.state is not VerifyState.RUNNING:
            return None
        extent = plan_verify_step(self._volume.state, cursor, length_max)
        if extent is None:
            self.state = VerifyState.DONE
            self._on_change()
        return extent

    def step(self, extent: Extent) -> Procedure[None]:
        """Return the procedure that compares *extent*."""
        return self._volume.verify_step(extent, self._repair, self._found)

    def pass_ended(self) -> bool:
        """One pass is all."""
        return False

    # --- verbs ----------------------------------------------------------------------------

    def start(self, repair: Repair) -> None:
        """Begin with the first region."""
        self._repair, self._found, self._pump.cursor = repair, BitMap64(), 0
        self.resume()

    def pause(self) -> None:
        """Begin no further step."""
        self.state = VerifyState.PAUSED
        self._pump.is_paused = True

    def resume(self) -> None:
        """Go on."""
        self.state = VerifyState.RUNNING
        self._pump.is_paused = False
        self._pump.kick()

    def cancel(self) -> None:
        """Give up; what was found stays in the status."""
        self.state = VerifyState.IDLE

    def backup_returned(self) -> None:
        """Do not wait for the timer of a failure."""
        self._pump.retry_now()

    def stop(self) -> None:
        """Begin no further step; the volume is being closed."""
        self._pump.stop()

    # --- kept over a restart ------------------------------------------------------------------

    def fact(self) -> dict[str, Any]:
        """Return what ``take_up`` needs; small, made for JSON."""
        return {
            "state": self.state.value,
            "cursor": self._pump.cursor,
            "repair": self._repair.value,
            "found": self._extents(),
        }

    def take_up(self, fact: dict[str, Any] | None) -> None:
        """Go on where the last run of the handler was."""
        if not fact:
            return
        self._repair, self._pump.cursor = Repair(fact["repair"]), fact["cursor"]
        geometry = self._volume.state.geometry
        for offset, length in fact["found"]:
            self._found.update(BitMap64(geometry.regions(Extent(offset, length))))
        self.state = VerifyState(fact["state"])
        self._pump.is_paused = self.state is VerifyState.PAUSED
        self._pump.kick()

    def _extents(self) -> list[tuple[int, int]]:
        geometry = self._volume.state.geometry
        runs = [geometry.extent_of(run) for run in islice(runs_of(self._found), EXTENTS_MAX)]
        return [(extent.offset, extent.length) for extent in runs]

    def status(self) -> dict[str, Any]:
        """Return the verification's part of the status document. Sizes are bytes."""
        geometry = self._volume.state.geometry
        done = min(self._pump.cursor * geometry.region_size, geometry.size)
        done = geometry.size if self.state is VerifyState.DONE else done
        rate, left = self._pump.rate, geometry.size - done
        return {
            "state": self.state.value,
            "reason": self._pump.reason,
            "repair": self._repair.value,
            "bytes_done": done,
            "bytes_total": geometry.size,
            "rate_bytes_per_second": rate,
            "seconds_left": left / rate if rate > 0 and left else None,
            "regions_differing": len(self._found),
            "differing_extents": self._extents(),
        }
