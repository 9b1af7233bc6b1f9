"""The merge of one volume: start, pause, resume, cancel, and where it is."""

from __future__ import annotations

import logging
from asyncio import TimerHandle, get_running_loop
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any

from pyroaring import BitMap64

from ..core.effects import Leg
from ..core.extent import Extent
from ..core.merge import MergeStep, count_left
from ..core.merge_order import MergeOrder
from ..core.pacing import Pace, StepSizer
from ..core.volume import Volume
from ..errors import BadExtentError, RestoreError, SourceError, SourceUnreachableError
from ..log_line import log_line
from .driver import Driver

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""How long a merge waits after a source that failed before it tries again."""

RATE_WINDOW_SECONDS = 10.0
"""The rate is a mean over this long: steadier than a host's eye needs, fresh enough to trust."""


YIELD_SECONDS = 0.1
"""How soon a step that gave way to a host's read is looked at again."""

YIELD_SECONDS_MAX = 10.0
"""However much hosts read over a slow line, a step begins this often: the merge creeps on."""

BAD_EXTENTS_LOGGED = 100
"""A disk that is wholly unreadable must not fill the log too; the status counts them all."""


class MergeState(Enum):
    """What the merge is doing."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"


class MergeJob:
    """Keeps a number of steps in flight until nothing that can be filled is lost.

    Its place is not kept: the overwrite map says what is still lost, so a merge that goes on
    after a restart copies again only what was not committed.
    """

    def __init__(
        self,
        name: str,
        volume: Volume,
        driver: Driver,
        *,
        paces: Mapping[Leg, Pace],
        sizer: StepSizer,
        on_change: Callable[[], None],
    ) -> None:
        self.state = MergeState.IDLE
        self.reason = ""
        self.bad_extents = 0
        """Extents of an exported snapshot that were damaged, since the merge was started."""
        self._name = name
        self._volume = volume
        self._driver = driver
        self._paces = paces
        self._sizer = sizer
        self._is_closed = False
        self._on_change = on_change
        self._order = MergeOrder(volume.state)
        self._in_flight = 0
        self._begun_at = 0.0
        self._retry: TimerHandle | None = None
        self._paced: TimerHandle | None = None
        self._samples: deque[tuple[float, int]] = deque()

    # --- verbs --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with the hottest lost regions."""
        self._order.begin_pass(counts_skipped=True)
        self.bad_extents = 0
        self.resume()

    def resume(self) -> None:
        """Go on, after a pause or a restart, wherever the map has lost regions."""
        self._samples.clear()
        self._enter(MergeState.RUNNING)
        self._fill()

    def pause(self) -> None:
        """Start no further step; those in flight end."""
        self._enter(MergeState.PAUSED)

    def stop(self) -> None:
        """Give up; what is merged stays merged."""
        self._enter(MergeState.IDLE)

    def close(self) -> None:
        """Start no further step, and stay what it is: the next open goes on with it."""
        self._is_closed = True
        if self._paced is not None:
            self._paced.cancel()

    def primary_replaced(self) -> None:
        """All is lost on another disk: begin with what is hottest."""
        self._order.begin_pass(counts_skipped=False)
        self.source_changed()

    def source_changed(self) -> None:
        """A source came back: do not wait for the timer."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry_now()

    # --- the pump -----------------------------------------------------------------------

    def _enter(self, state: MergeState) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self.state, self.reason = state, ""
        self._on_change()

    @property
    def _has_room(self) -> bool:
        waits = self._retry is not None or self._paced is not None or self._is_closed
        return (
            self.state is MergeState.RUNNING and not waits and self._in_flight < self._sizer.depth
        )

    def _fill(self) -> None:
        failure = self._volume.state.primary_failure
        if failure is not None:
            self._wait(f"the primary is failed: {failure}")
        while self._has_room:
            step = self._order.next_step(self._sizer.length)
            if step is None:
                self._end_of_pass()
                return
            if not self._is_due(step):
                return
            self._order.take(step)
            self._begin(step)

    def _is_due(self, step: MergeStep) -> bool:
        """Whether *step* may begin now; else go on when it may."""
        loop = get_running_loop()
        if self._is_host_first(loop.time()):
            delay = YIELD_SECONDS
        else:
            delay = self._paces[step.leg].delay(step.extent.length, loop.time())
        if delay > 0:
            self._paced = loop.call_later(delay, self._pace_ended)
        return delay <= 0

    def _is_host_first(self, now: float) -> bool:
        """Whether a host waits for lost bytes, and a slow line would serve this step before."""
        if not self._sizer.is_slow or now - self._begun_at > YIELD_SECONDS_MAX:
            return False
        return any(
            fetch.joinable and not fetch.arrived.is_open for fetch in self._volume.state.fetches
        )

    def _pace_ended(self) -> None:
        self._paced = None
        self._fill()

    def _begin(self, step: MergeStep) -> None:
        self._in_flight += 1
        loop = get_running_loop()
        self._begun_at = loop.time()
        done = partial(self._step_done, step, loop.time())
        # not at once: a store that answers at once would grow the stack
        loop.call_soon(self._driver.start, self._volume.merge_step(step), done)

    def _end_of_pass(self) -> None:
        """Done if nothing is left to fill; else another pass takes what failed in this one."""
        if self._in_flight:
            return
        if count_left(self._volume.state) == 0:
            self._enter(MergeState.DONE)
        else:
            self._order.begin_pass(counts_skipped=False)
            self._wait("some regions could not be merged and are tried again")

    def _step_done(self, step: MergeStep, began: float, error: BaseException | None) -> None:
        self._in_flight -= 1
        if error is None:
            self._sizer.step_ended(step.extent.length, get_running_loop().time() - began)
            self._sample()
            self._clear_reason()
        elif isinstance(error, RestoreError):
            self._step_failed(step, error)
        else:
            return  # the volume is fenced
        self._fill()

    def _step_failed(self, step: MergeStep, error: RestoreError) -> None:
        """Fall back to the live backup for what a snapshot cannot read; wait for the rest."""
        if isinstance(error, BadExtentError) and self._leave_out(step, error):
            return
        self._sizer.step_failed()
        permanent = isinstance(error, SourceError) and not error.retryable
        if permanent and step.leg is Leg.SNAPSHOT:
            regions = self._volume.state.geometry.regions(step.extent)
            self._volume.state.overwrite_map.mark_in_doubt(BitMap64(regions))
        is_away = step.leg is Leg.SNAPSHOT and isinstance(error, SourceUnreachableError)
        self._wait(f"waiting for the bulk link: {error}" if is_away else str(error))

    def _leave_out(self, step: MergeStep, error: BadExtentError) -> bool:
        """Let the backup fill exactly the bad extent, and go on at once with the rest of *step*."""
        bad = Extent(error.offset, error.length)
        state = self._volume.state
        if step.leg is not Leg.SNAPSHOT or not bad.overlaps(step.extent):
            return False
        regions = state.geometry.regions(bad)
        sets = state.overwrite_map.sets
        if BitMap64(regions) - sets.current - sets.in_doubt:  # else another step met it before
            self.bad_extents += 1
            if self.bad_extents <= BAD_EXTENTS_LOGGED:
                log.warning(self._line(f"{error}; it comes from the backup", bad))
        state.overwrite_map.mark_in_doubt(BitMap64(regions))
        whole = state.geometry.regions(step.extent)
        for rest in (range(whole.start, regions.start), range(regions.stop, whole.stop)):
            if rest and self.state is MergeState.RUNNING and not self._is_closed:
                self._begin(MergeStep(state.geometry.extent_of(rest), Leg.SNAPSHOT))
        return True

    def _line(self, sentence: str, extent: Extent) -> str:
        place = {"offset": extent.offset, "length": extent.length}
        return log_line(sentence, volume=self._name, operation="merge", **place)

    def _wait(self, reason: str) -> None:
        if self.state is not MergeState.RUNNING or self._retry is not None:
            return
        self.reason = reason
        self._retry = get_running_loop().call_later(RETRY_SECONDS, self._retry_now)
        self._on_change()

    def _retry_now(self) -> None:
        self._retry = None
        self._fill()

    def _clear_reason(self) -> None:
        """What was waited for is there; until a step succeeds nobody knows."""
        if self.reason and self._retry is None:
            self.reason = ""
            self._on_change()

    # --- what the user sees -------------------------------------------------------------

    def _sample(self) -> None:
        now = get_running_loop().time()
        self._samples.append((now, self._bytes_current()))
        while self._samples and self._samples[0][0] < now - RATE_WINDOW_SECONDS:
            self._samples.popleft()

    def _bytes_current(self) -> int:
        """Return the bytes of what the snapshot covers that are current."""
        state = self._volume.state
        current = state.selection.within(state.overwrite_map.sets.current)
        return len(current) * state.geometry.region_size

    def rate(self) -> float:
        """Return bytes a second that came to be current, over the last seconds; 0 when idle."""
        if self.state is not MergeState.RUNNING or len(self._samples) < 2:  # noqa: PLR2004 - a span
            return 0.0
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        if get_running_loop().time() - last > RATE_WINDOW_SECONDS or last == first:
            return 0.0
        return (after - before) / (last - first)

    def _report(self) -> str:
        """Say what a person should know of this merge besides its progress; else nothing."""
        if not self.bad_extents:
            return ""
        is_one = self.bad_extents == 1
        were = "extent of the snapshot was" if is_one else "extents of the snapshot were"
        come = "came" if self.state is MergeState.DONE else "comes" if is_one else "come"
        return f"{self.bad_extents} {were} bad and {come} from the backup"

    def status(self) -> dict[str, Any]:
        """Return the merge's part of the status document. Sizes are bytes."""
        state = self._volume.state
        size = min(state.selection.count * state.geometry.region_size, state.geometry.size)
        done = min(self._bytes_current(), size)
        rate = self.rate()
        return {
            "state": self.state.value,
            "reason": self.reason,
            "bad_extents": self.bad_extents,
            "report": self._report(),
            "bytes_done": done,
            "bytes_total": size,
            "rate_bytes_per_second": rate,
            "seconds_left": (size - done) / rate if rate > 0 else None,
        }
