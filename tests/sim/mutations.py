"""The list of planted mistakes. A text of one module of the core, and what stands in its place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mistake. *rule* is the rule of docs/rules.md that it breaks."""

    name: str
    rule: str
    module: str
    old: str
    new: str
    also: tuple[str, str] | None = None
    """A second text and its replacement, where one check backs another up."""

    def apply(self, source: str) -> str:
        """Return *source* with the mistake in it."""
        for old, new in filter(None, ((self.old, self.new), self.also)):
            assert source.count(old) == 1, f"{self.name}: its text must occur exactly once"
            source = source.replace(old, new)
        return source


MUTATIONS = (
    Mutation(
        "a write takes no lock",
        "RD-1",
        "writing",
        "    await Lock(state.geometry.align_out(extent))\n"
        "    epoch = await _armed(state, extent, partial(_write_both",
        "    epoch = await _armed(state, extent, partial(_write_both",
    ),
    Mutation("populate takes no lock", "RD-2", "fetching", "    await Lock(fetch.extent)\n", ""),
    Mutation(
        "resync takes no lock",
        "MIR-1",
        "resync",
        "    await Lock(extent)\n",
        "",
    ),
    Mutation(
        "bad sectors are lost without a lock",
        "LOSS-1",
        "losing",
        "        await Lock(state.geometry.align_out(extent))\n"
        "        await lose_bad_regions_locked",
        "        await lose_bad_regions_locked",
    ),
    Mutation(
        "the map image is taken after the flush",
        "MAP-1",
        "committing",
        "        return image.with_stale(forgotten), forgotten",
        "        state.overwrite_map.commit_failed(image)\n"
        "        return state.overwrite_map.take_image().with_stale(forgotten), forgotten",
    ),
    Mutation(
        "the primary is not flushed before the commit",
        "MAP-1",
        "committing",
        "        effects.append(Flush(Leg.PRIMARY))\n",
        "",
    ),
    Mutation(
        "a populated region is current before it is written",
        "MAP-2",
        "fetching",
        "    extents = [state.geometry.extent_of(run) for run in runs_of(wanted)]\n",
        "    extents = [state.geometry.extent_of(run) for run in runs_of(wanted)]\n"
        "    state.overwrite_map.mark_fetched(wanted)\n"
        "    wanted = wanted - wanted\n",
    ),
    Mutation(
        "two commits at once",
        "MAP-3",
        "committing",
        "    asked_after = state.flushes_begun\n    await Lock(COMMIT)\n",
        "    asked_after = state.flushes_begun\n",
    ),
    Mutation(
        "a failed commit counts as done",
        "MAP-3",
        "overwrite_map",
        "        self._changed.update(image.chunks)\n",
        "",
    ),
    Mutation(
        "FUA is ignored",
        "MAP-4",
        "writing",
        "    if fua or state.is_diskless:",
        "    if state.is_diskless:",
    ),
    Mutation(
        "a zone is armed in memory only",
        "INT-1",
        "writing",
        "            await CommitIntent(armed=unarmed, disarmed=())\n",
        "",
    ),
    Mutation(
        "a zone is disarmed while it is written to",
        "INT-1",
        "intent_log",
        "set(zones) & self._armed.keys() - self._busy_since_sweep",
        "set(self._armed)",
    ),
    Mutation(
        "after an unclean stop nothing is stale",
        "INT-2",
        "overwrite_map",
        "        self.mark_stale(regions)\n",
        "",
    ),
    Mutation(
        "after an unclean stop nothing is in doubt",
        "INT-2",
        "overwrite_map",
        "        self.mark_in_doubt(regions)\n",
        "",
    ),
    Mutation(
        "a snapshot is merged into what is in doubt",
        "INT-2",
        "merge",
        "    doubtful = run.start in in_doubt\n",
        "    doubtful, in_doubt = False, BitMap64()\n",
        (
            "    fetch = Fetch(step.extent, leg=step.leg, joinable=False)\n",
            "    fetch = Fetch(step.extent, joinable=False)\n",
        ),
    ),
    Mutation(
        "a snapshot answers for what is in doubt",
        "INT-2",
        "fetching",
        "    newer = (sets.in_doubt, sets.outdated, sets.host_written)",
        "    newer = (sets.outdated, sets.host_written)",
    ),
    Mutation(
        "the merge ignores the selection",
        "MRG-3",
        "merge",
        "lost = state.selection.within(overwrite_map.fillable_in(regions[:window])) - without",
        "lost = overwrite_map.fillable_in(regions[:window]) - without",
        (
            "    if not selection.covers(state.geometry.regions(step.extent)):\n",
            "    if False:\n",
        ),
    ),
    Mutation(
        "a merge uses what it read of another snapshot",
        "MRG-3",
        "merge",
        "        if step.leg is Leg.SNAPSHOT and state.selection is not selection:\n",
        "        if False:\n",
    ),
    Mutation(
        "a snapshot answers for what it does not cover",
        "MRG-3",
        "fetching",
        "    if not state.selection.covers(touched):\n        return False\n",
        "",
    ),
    Mutation(
        "a region that is covered in part counts as covered",
        "MRG-3",
        "selection",
        "        whole = geometry.whole_regions(extent)\n",
        "        whole = geometry.regions(extent)\n",
    ),
    Mutation(
        "what came from the backup in doubt counts as no newer than the snapshot",
        "MRG-1",
        "overwrite_map",
        "        self._sets.host_written.update(found & self._sets.in_doubt)"
        "  # newer than the snapshot\n",
        "",
    ),
    Mutation(
        "a step of a hot chunk stands for all of it",
        "MRG-4",
        "merge_order",
        "            self._taken.add_range(regions.start, regions.stop)\n",
        "            self._taken.add_range(regions.start, self._hot[-1].stop)\n",
    ),
    Mutation(
        "a failed mirror leaves no stale region",
        "MIR-1",
        "writing",
        "        overwrite_map.mark_stale(regions)  # MIR-1: on one side only\n",
        "",
    ),
    Mutation(
        "a partial write makes a stale region synced",
        "MIR-1",
        "writing",
        "        overwrite_map.mark_synced(BitMap64(geometry.whole_regions(extent)))",
        "        overwrite_map.mark_synced(regions)",
    ),
    Mutation(
        "what the backup forgot is not stale",
        "MIR-2",
        "state",
        "            self.doubt_unflushed(self.unflushed.pop(past))",
        "            self.unflushed.pop(past)",
    ),
    Mutation(
        "a flush vouches for an earlier session's writes",
        "MIR-2",
        "committing",
        "isinstance(backup, RestoreError) or epoch < backup",
        "isinstance(backup, RestoreError)",
    ),
    Mutation(
        "edges that the backup forgot are not stale",
        "MIR-2",
        "writing",
        "    if whole != extent and epoch != state.backup_epoch:",
        "    if whole != extent and epoch > state.backup_epoch:",
    ),
    Mutation(
        "populate does not look again",
        "RD-2",
        "fetching",
        "state.overwrite_map.fillable_in(state.geometry.regions(fetch.extent)) - fetch.spoiled",
        "state.overwrite_map.fillable_in(state.geometry.regions(fetch.extent))",
    ),
    Mutation(
        "a read joins a fetch that a write has overtaken",
        "RD-1",
        "fetch_table",
        "        return region in geometry.regions(self.extent) and region not in self.spoiled",
        "        return region in geometry.regions(self.extent)",
    ),
    Mutation(
        "a partial write does not fill the rest of its region",
        "RD-1",
        "writing",
        "    if state.is_diskless or not covered_in_part:",
        "    if True:",
    ),
    Mutation(
        "a discard forgets the map",
        "ZERO-1",
        "writing",
        "    zeroed = await _perform(state, middle, Zero(Leg.BACKUP, middle), "
        "Zero(Leg.PRIMARY, middle))",
        "    await AllOf((Zero(Leg.BACKUP, middle),))\n    zeroed = MIRRORED",
    ),
    Mutation(
        "a failed flush of the primary is passed over",
        "LOSS-2",
        "committing",
        "            state.fail_primary(primary)  # what it covered is not trusted again\n",
        "            pass\n",
    ),
    Mutation(
        "a diskless write is acknowledged from the backup's cache",
        "LOSS-2",
        "writing",
        "    if fua or state.is_diskless:",
        "    if fua:",
    ),
    Mutation(
        "the loss of the primary is not committed",
        "LOSS-2",
        "committing",
        "            await CommitMap(image.with_outdated(",
        "            if not state.is_diskless:\n"
        "                await CommitMap(image.with_outdated(",
    ),
    Mutation(
        "a disk given back is trusted with what it had not flushed",
        "LOSS-2",
        "state",
        "self.overwrite_map.keep(found - self.primary_unflushed - self.primary_flushing)",
        "self.overwrite_map.keep(found)",
    ),
    Mutation(
        "a disk given back is trusted with what was written since",
        "LOSS-2",
        "writing",
        "        state.overwrite_map.forget_kept(regions)\n",
        "        pass\n",
    ),
    Mutation(
        "another disk is taken for the failed one",
        "LOSS-2",
        "state",
        "        if same_disk:\n",
        "        if same_disk or True:\n",
    ),
    Mutation(
        "a stale region that is lost is not outdated",
        "LOSS-3",
        "overwrite_map",
        "        self._sets.outdated.update(found & self._sets.stale)\n",
        "",
    ),
    Mutation(
        "a host-written region that is lost is not in doubt",
        "LOSS-3",
        "overwrite_map",
        "        self._sets.in_doubt.update(found & self._sets.host_written)\n",
        "",
    ),
    Mutation(
        "what only the backup had, and forgot, is served",
        "LOSS-3",
        "state",
        "        self.overwrite_map.mark_outdated(gone)\n",
        "",
    ),
    Mutation(
        "an older snapshot answers for what outlived an unclean stop",
        "INT-2",
        "overwrite_map",
        "        self._sets.host_written.update(regions & self._sets.current)  # MAP-4\n",
        "",
    ),
    Mutation(
        "a commit on its way does not say what became outdated",
        "LOSS-3",
        "committing",
        "            outdated = state.backup_only | state.overwrite_map.sets.outdated",
        "            outdated = state.backup_only",
    ),
    Mutation(
        "the new size is not committed",
        "GROW-2",
        "growing",
        "    await CommitSize(size)\n",
        "",
    ),
    Mutation(
        "the volume has its new size before that is durable",
        "GROW-2",
        "growing",
        "    state.grow(grown)\n",
        "",
        ("    await CommitSize(size)\n", "    state.grow(grown)\n    await CommitSize(size)\n"),
    ),
    Mutation(
        "grown regions count as current",
        "GROW-1",
        "overwrite_map",
        "        assert self._sets.within(new) == RegionSets.empty()"
        "  # GROW-1: lost, and of no kind\n",
        "        self.mark_fetched(new)\n",
    ),
    Mutation(
        "the rest of a short region is not copied",
        "GROW-1",
        "growing",
        "        await _copy_rest(state, rest)\n",
        "        pass\n",
    ),
    Mutation(
        "the rest of a short region is copied only if that is current",
        "GROW-1",
        "growing",
        "    if rest is not None:\n",
        "    if rest and state.overwrite_map.is_current(grown.regions(rest)):\n",
    ),
    Mutation(
        "the rest of a short region is not flushed",
        "MAP-1",
        "growing",
        "        await Flush(Leg.PRIMARY)\n",
        "",
    ),
    Mutation(
        "a fetch of a short region that began while the size was committed is used",
        "GROW-1",
        "growing",
        "        state.fetches.spoil(grown.align_out(rest))\n",
        "        pass\n",
        (
            "    await CommitSize(size)\n",
            "    if rest is not None:\n"
            "        state.fetches.spoil(state.geometry.align_out(Extent(rest.offset - 1, 1)))\n"
            "    await CommitSize(size)\n",
        ),
    ),
)
