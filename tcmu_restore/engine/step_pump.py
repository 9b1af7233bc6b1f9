"""Runs background steps over a volume one after the other, paced; the base of resync and verify."""

from __future__ import annotations

from asyncio import TimerHandle, get_running_loop
from functools import partial
from typing import Protocol

from ..core.effects import Procedure
from ..core.extent import Extent
from ..core.geometry import Geometry
from ..core.pacing import Pace, StepSizer
from ..errors import RestoreError
from .driver import Driver
from .rate_meter import RateMeter

STEP_MAX = 256 * 1024
"""One step holds its lock while the bytes cross the live link: kept short for that."""

RETRY_SECONDS = 2.0
"""How long the pump waits after a step that failed."""


class Steps(Protocol):
    """What the pump does."""

    def plan(self, cursor: int, length_max: int) -> Extent | None:
        """Return the first extent to do from region *cursor* on, or None."""

    def step(self, extent: Extent) -> Procedure[None]:
        """Return the procedure that does *extent*."""

    def pass_ended(self) -> bool:
        """Nothing is left behind the cursor. Return whether to begin again at the start."""


class StepPump:
    """One step at a time, until nothing is left to do; a step that fails holds nothing else up."""

    def __init__(self, steps: Steps, driver: Driver, pacer: Pace, geometry: Geometry) -> None:
        self._steps = steps
        self._driver = driver
        self._pacer = pacer
        self._geometry = geometry
        self._sizer = StepSizer(length_min=geometry.region_size, length_max=STEP_MAX, depth_max=1)
        self._meter = RateMeter()
        self._timer: TimerHandle | None = None
        self._is_stopped = False
        self.cursor = 0
        """The region after the last one done."""
        self.is_in_flight = False
        self.is_paused = False
        self.reason = ""
        """Why the last step failed, as long as none has succeeded since."""

    @property
    def rate(self) -> float:
        """Bytes a second over the last seconds."""
        return self._meter.rate(get_running_loop().time())

    def kick(self) -> None:
        """Go on if there is work and nothing stands against it."""
        if self.is_in_flight or self._is_stopped or self.is_paused or self._timer is not None:
            return
        extent = self._next()
        if extent is None:
            self.reason = ""
            return
        loop = get_running_loop()
        delay = self._pacer.delay(extent.length, loop.time())
        if delay > 0:
            self._wait(delay)
            return
        self.is_in_flight = True
        done = partial(self._step_done, extent, loop.time())
        # not at once: a store that answers at once would grow the stack
        loop.call_soon(self._driver.start, self._steps.step(extent), done)

    def retry_now(self) -> None:
        """Do not wait for the timer of a failure."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.kick()

    def stop(self) -> None:
        """Begin no further step; the volume is being closed."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> Extent | None:
        extent = self._steps.plan(self.cursor, self._sizer.length)
        if extent is None and self.cursor and self._steps.pass_ended():
            self.cursor = 0
            extent = self._steps.plan(0, self._sizer.length)
        return extent

    def _wait(self, seconds: float) -> None:
        self._timer = get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        self.kick()

    def _step_done(self, extent: Extent, began: float, error: BaseException | None) -> None:
        self.is_in_flight = False
        now = get_running_loop().time()
        if error is None:
            self.cursor = self._geometry.regions(extent).stop
            self.reason = ""
            self._sizer.step_ended(extent.length, now - began)
            self._meter.add(extent.length, now)
            self.kick()
        elif isinstance(error, RestoreError) and not self._is_stopped:
            self.reason = str(error)
            if not error.retryable:  # a region that the backup cannot take holds nothing up
                self.cursor = self._geometry.regions(extent).stop
            self._sizer.step_failed()
            if self._timer is None:
                self._wait(RETRY_SECONDS)
