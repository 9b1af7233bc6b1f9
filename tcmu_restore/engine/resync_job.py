"""The resync of one volume: sends stale regions to the backup by itself, paced and resumable."""

from __future__ import annotations

from asyncio import TimerHandle, get_running_loop
from enum import Enum
from functools import partial
from typing import Any

from ..core.extent import Extent
from ..core.pacing import Pacer, StepSizer
from ..core.resync import plan_resync_step
from ..core.volume import Volume
from ..errors import RestoreError
from .driver import Driver
from .rate_meter import RateMeter

STEP_MAX = 256 * 1024
"""One step holds its lock while the bytes cross the live link: kept short for that."""

RETRY_SECONDS = 2.0
"""How long resync waits after every stale region failed once before it tries again."""


class ResyncState(Enum):
    """What the job is doing."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"


class ResyncJob:
    """One step at a time. Nothing is kept: the overwrite map says what is still stale."""

    def __init__(self, volume: Volume, driver: Driver, pacer: Pacer) -> None:
        self._volume = volume
        self._driver = driver
        self._pacer = pacer
        region_size = volume.state.geometry.region_size
        self._sizer = StepSizer(length_min=region_size, length_max=STEP_MAX, depth_max=1)
        self._meter = RateMeter()
        self._cursor = 0
        self._in_flight = False
        self._timer: TimerHandle | None = None
        self._is_stopped = False
        self.is_paused = False
        self.reason = ""
        """Why the last step failed, as long as none has succeeded since."""

    def kick(self) -> None:
        """The backup is reachable, or something came to be stale: go on if there is work."""
        if self._in_flight or self._is_stopped or self.is_paused or self._timer is not None:
            return
        extent = self._plan()
        if extent is None:
            self.reason = ""
            return
        loop = get_running_loop()
        delay = self._pacer.delay(extent.length, loop.time())
        if delay > 0:
            self._wait(delay)
            return
        self._in_flight = True
        done = partial(self._step_done, extent, loop.time())
        self._driver.start(self._volume.resync_step(extent), done)

    def backup_returned(self) -> None:
        """Do not wait for the timer of a failure."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.kick()

    def pause(self) -> None:
        """Begin no further step until ``resume``."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on."""
        self.is_paused = False
        self.kick()

    def stop(self) -> None:
        """Begin no further step; the volume is being closed."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> Extent | None:
        """Return the next stale run; after the last one begin again with the first."""
        state = self._volume.state
        extent = plan_resync_step(state, self._cursor, self._sizer.length)
        if extent is None and self._cursor:
            self._cursor = 0
            extent = plan_resync_step(state, 0, self._sizer.length)
        return extent

    def _wait(self, seconds: float) -> None:
        self._timer = get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self.kick()

    def _step_done(self, extent: Extent, began: float, error: BaseException | None) -> None:
        self._in_flight = False
        loop = get_running_loop()
        regions = self._volume.state.geometry.regions(extent)
        self._cursor = regions.stop  # a region that the backup cannot take holds nothing up
        if error is None:
            self.reason = ""
            self._sizer.step_ended(extent.length, loop.time() - began)
            self._meter.add(extent.length, loop.time())
            loop.call_soon(self.kick)
        elif isinstance(error, RestoreError) and not self._is_stopped:
            self.reason = str(error)
            self._sizer.step_failed()
            if self._timer is None:
                self._wait(RETRY_SECONDS)

    def status(self) -> dict[str, Any]:
        """Return the resync's part of the status document."""
        state = self._volume.state
        left = len(state.overwrite_map.sets.stale) * state.geometry.region_size
        rate = self._meter.rate(get_running_loop().time())
        return {
            "state": self._word(left).value,
            "reason": self.reason,
            "bytes_left": left,
            "rate_bytes_per_second": rate,
            "seconds_left": left / rate if rate > 0 and left else None,
        }

    def _word(self, left: int) -> ResyncState:
        if not left:
            return ResyncState.IDLE
        if self.is_paused:
            return ResyncState.PAUSED
        return ResyncState.WAITING if self.reason or not self._in_flight else ResyncState.RUNNING
