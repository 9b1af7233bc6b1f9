"""What goes on by itself in an open volume: checkpoints."""

from __future__ import annotations

from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable

from ..core.volume import Volume
from ..options import VolumeOptions
from .driver import Driver


class Checkpoints:
    """Flushes and commits at an interval, while there is something to commit or to disarm."""

    def __init__(
        self,
        volume: Volume,
        driver: Driver,
        options: VolumeOptions,
        *,
        on_ended: Callable[[], None],
    ) -> None:
        self._volume = volume
        self._driver = driver
        self._on_ended = on_ended
        self._interval = options.commit_interval_seconds
        self._timer: TimerHandle | None = None
        self._is_running = False

    def start(self) -> None:
        """Begin; the first checkpoint comes after one interval."""
        self._timer = get_running_loop().call_later(self._interval, self._tick)

    def stop(self) -> None:
        """Begin no further checkpoint."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self.start()
        state = self._volume.state
        idle = not (state.overwrite_map.has_uncommitted or state.unflushed or state.intent.armed)
        if not idle and not self._is_running:
            self._is_running = True
            self._driver.start(self._volume.checkpoint(), self._ended)

    def _ended(self, error: BaseException | None) -> None:
        del error  # a failure leaves everything uncommitted and armed: the next tick tries again
        self._is_running = False
        self._on_ended()
