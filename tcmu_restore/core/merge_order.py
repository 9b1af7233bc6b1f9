"""Where a merge goes next: to the hottest chunks first, then through everything in order.

MRG-4: a merge goes in passes, and a pass looks at each region once, whether out of order or in
order. So a pass ends, however hosts change what is hot meanwhile, nothing waits for ever, and what
could not be merged is left to the next pass. Hot chunks are looked at whole, with large steps.
"""

from __future__ import annotations

from pyroaring import BitMap64

from .merge import MergePlan, MergeStep, plan_merge_step
from .state import VolumeState

STEPS_A_LOOK = 64
"""What is hot is looked at anew after so many steps: 1 ms beside 64 large reads."""


class MergeOrder:
    """The place of one merge in its pass. Nothing of it is kept: the map says what is lost."""

    def __init__(self, state: VolumeState) -> None:
        self._state = state
        self._chunk_regions = len(state.heat.regions_of(0))
        self.begin_pass(counts_skipped=False)

    def begin_pass(self, *, counts_skipped: bool) -> None:
        """Look at each region once again.

        *counts_skipped*: what is current is counted as skipped; a later pass meets what the merge
        itself made current.
        """
        self._counts_skipped = counts_skipped
        self._cursor = 0
        """Regions before it were looked at in order."""
        self._hot: list[range] = []
        """What is still to be looked at out of order, the hottest last."""
        self._taken = BitMap64()
        """Regions that were looked at out of order."""
        self._known: set[int] = set()
        """Chunks of which that was begun."""
        self._steps_until_look = 0

    def next_step(self, length_max: int) -> MergeStep | None:
        """Return the next step of at most *length_max* bytes, or None at the end of the pass.

        Passes over what needs none; the step itself counts as looked at only after ``take``.
        """
        if self._steps_until_look <= 0:
            self._look_for_hot()
        while self._hot:
            regions = self._hot[-1]
            self._known.add(self._chunk_of(regions))
            plan = self._plan(regions, length_max)
            start = self._start_of(plan)
            self._taken.add_range(regions.start, start)
            self._hot[-1] = range(start, regions.stop)
            if plan.step is not None:
                return plan.step
            self._hot.pop()
        plan = self._plan(range(self._cursor, self._state.geometry.region_count), length_max)
        self._cursor = self._start_of(plan)
        return plan.step

    def take(self, step: MergeStep) -> None:
        """*step*, which ``next_step`` gave last, is begun."""
        regions = self._state.geometry.regions(step.extent)
        self._steps_until_look -= 1
        if self._hot:
            assert self._hot[-1].start == regions.start
            self._taken.add_range(regions.start, regions.stop)
            self._hot[-1] = range(regions.stop, self._hot[-1].stop)
        else:
            assert self._cursor == regions.start
            self._cursor = regions.stop

    def _plan(self, regions: range, length_max: int) -> MergePlan:
        plan = plan_merge_step(
            self._state, regions.start, length_max, stop=regions.stop, without=self._taken
        )
        if self._counts_skipped:
            self._state.counters.regions_skipped_current += plan.skipped_current
        return plan

    def _chunk_of(self, regions: range) -> int:
        return (regions.stop - 1) // self._chunk_regions

    def _start_of(self, plan: MergePlan) -> int:
        if plan.step is None:
            return plan.cursor
        return self._state.geometry.regions(plan.step.extent).start

    def _look_for_hot(self) -> None:
        """Choose chunks for the next steps; one that is begun is gone on with first."""
        self._steps_until_look = STEPS_A_LOOK
        begun = [regions for regions in self._hot[-1:] if self._chunk_of(regions) in self._known]
        heat, overwrite_map = self._state.heat, self._state.overwrite_map
        found: list[range] = []
        for chunk in heat.hot_chunks():
            regions = heat.regions_of(chunk)
            if chunk in self._known or regions.start < self._cursor:
                continue
            covered = self._state.selection.next_from(regions.start) < regions.stop
            if covered and not overwrite_map.is_current(regions):
                found.append(regions)
                if len(found) == STEPS_A_LOOK:
                    break
        self._hot = [*reversed(found), *begun]
