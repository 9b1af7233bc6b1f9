"""One open volume: its stores, its core, its jobs, wired together.

Everything here runs on the event loop's thread. ``open_engine`` never waits for
a peer: the backup may be away for hours, and current regions are served all the
same.
"""

from __future__ import annotations

import logging
from asyncio import Event, Task, get_running_loop, wait_for
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ..core.effects import Leg, Procedure
from ..core.extent import Extent
from ..core.pacing import CeilingPacer, Pacer, StepSizer
from ..core.selection import select
from ..core.volume import Volume
from ..errors import RestoreError, WrongStateError
from ..log_line import log_line
from ..sources.base import BlockSource, BlockStore
from ..sources.iscsi import IscsiStore
from .bulk_link import FACT as BULK_LINK
from .bulk_link import BulkLink, Surroundings
from .checkpoints import Checkpoints
from .command import Command, CommandKind
from .command_queue import CommandQueue
from .definition import Definition
from .device_watch import DeviceWatch
from .driver import Driver
from .events import EventLog
from .heat_keeper import HeatKeeper
from .link_settings import LinkSettings
from .merge_job import MergeJob, MergeState
from .performer import StorePerformer
from .primary_guard import PrimaryGuard
from .resync_job import ResyncJob
from .shipped_offer import Offer
from .state_db import StateDb
from .status import ADVICE, QUIET_CONDITIONS, conditions_of
from .verify_job import VerifyJob

log = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0
"""How long after opening a backup that has not answered yet is not reported as degraded."""

CLOSE_SECONDS = 15.0
"""How long a close waits for what is in flight; every transfer has a shorter deadline."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a volume is made of when it is opened."""

    name: str
    definition: Definition
    volume: Volume
    db: StateDb
    backup: IscsiStore
    primary: BlockStore | None
    facts: dict[str, Any]
    watch: DeviceWatch | None = None


class VolumeEngine:
    """An open volume. Made by ``opening.open_engine``."""

    def __init__(self, parts: Parts, on_change: Callable[[str, str], None]) -> None:
        self.name = parts.name
        self.definition = parts.definition
        self.volume = volume = parts.volume
        self.db = parts.db
        self.backup = parts.backup
        self.facts = parts.facts
        self.lio_size = volume.state.geometry.size
        """Bytes that LIO's backstore has: less, as long as a resize is not finished."""
        self.mistake: BaseException | None = None
        self.is_preparing = False
        """Whether a verb is under way that another one must not meet."""
        self.offers: list[Offer] = []
        """Exported snapshots of this volume on disks that are here."""
        self._report = on_change
        self._last_conditions: list[str] = []
        self.events = EventLog(self.name)
        self.is_settled = False
        self._settle = get_running_loop().call_later(SETTLE_SECONDS, self._settled)
        self._idle = Event()
        self._idle.set()
        options = self.definition.options
        self.performer = StorePerformer(
            self.db, self.backup, parts.primary, self.facts_now, volume.state
        )
        self.driver = Driver(volume.state.locks, self.performer, self._fence, self._procedure_ended)
        self._pacer = Pacer(floor=options.background_rate_min, ceiling=options.background_rate_max)
        live = CeilingPacer(self._pacer, lambda: self.definition.backup.link.rate_max)
        self.commands = CommandQueue(
            volume, self.driver, options, self._idle.set, self._command_ended
        )
        self.commands.unreachable_since = get_running_loop().time()
        self.merge = MergeJob(
            self.name,
            volume,
            self.driver,
            paces={
                Leg.BACKUP: live,
                Leg.SNAPSHOT: CeilingPacer(self._pacer, lambda: self.link.settings.rate_max),
            },
            sizer=StepSizer(
                length_min=volume.state.geometry.region_size,
                length_max=options.merge_step,
                depth_max=options.merge_depth,
            ),
            on_change=self.changed,
        )
        self.link = self._bulk_link()
        self.resync = ResyncJob(volume, self.driver, live)
        if self.facts.get("resync_paused"):
            self.resync.pause()
        self.verify = VerifyJob(volume, self.driver, live, on_change=self.changed)
        self.verify.take_up(self.facts.get("verify"))
        self._checkpoints = Checkpoints(volume, self.driver, options, on_ended=self.changed)
        self._checkpoints.start()
        self.heat_keeper = HeatKeeper(volume.state.heat, self.db)
        self.heat_keeper.start()
        self.guard = PrimaryGuard(
            self,
            identity=self.facts["primary_identity"],
            watch=parts.watch,
            on_returned_by_itself=self._take_back_primary,
        )
        self._taking_back: Task[None] | None = None

    def _bulk_link(self) -> BulkLink:
        around = Surroundings(
            self.name,
            self.events,
            self.db.commit_facts,
            merge_state=lambda: self.merge.state,
            snapshot=lambda: self.snapshot,
        )
        return BulkLink(around, self.facts.get(BULK_LINK))

    @property
    def region_size(self) -> int:
        """Bytes a region."""
        return self.volume.state.geometry.region_size

    @property
    def size(self) -> int:
        """Bytes."""
        return self.volume.state.geometry.size

    def lio_resized(self, size: int) -> None:
        """LIO's backstore has *size* bytes now."""
        self.lio_size = size
        self.changed()

    @property
    def snapshot(self) -> BlockSource | None:
        """The attached snapshot, or None."""
        return self.performer.snapshot

    # --- the data path ------------------------------------------------------------------

    def submit(self, command: Command) -> None:
        """Take *command*; its ``complete`` is called exactly once, perhaps before this returns."""
        self.heat_keeper.count(command)
        if command.kind is CommandKind.READ and self._serve_now(command):
            command.complete(None)
            return
        self._idle.clear()
        self.commands.submit(command)

    def _serve_now(self, command: Command) -> bool:
        """Serve a read of current regions from the page cache, without a procedure."""
        state = self.volume.state
        offset, length = command.offset, command.length
        if length == 0 or offset + length > state.geometry.size or self.driver.is_fenced:
            return False
        primary = self.performer.primary
        if primary is None or not self.volume.is_current(Extent(offset, length)):
            return False
        if not primary.read_now(offset, command.buffers):
            return False
        state.counters.reads_from_primary += 1
        state.counters.bytes_read_from_primary += length
        return True

    # --- events -------------------------------------------------------------------------

    def backup_changed(self, reachable: bool) -> None:
        """The backup's session came up or was lost."""
        now = get_running_loop().time()
        self.commands.unreachable_since = None if reachable else now
        if reachable:
            self.performer.timing.forget(Leg.BACKUP)
            self._settle.cancel()
            self.is_settled = True
            self.commands.source_changed()
            self.merge.source_changed()
            self.resync.backup_returned()
            self.verify.backup_returned()
        self.changed()

    def snapshot_changed(self, reachable: bool) -> None:
        """The snapshot's session came up or was lost."""
        self.link.snapshot_changed(reachable)
        if reachable:
            self.performer.timing.forget(Leg.SNAPSHOT)
            self.merge.source_changed()
            self.commands.source_changed()
        self.changed()

    def _command_ended(self, seconds: float) -> None:
        self._pacer.command_ended(seconds, get_running_loop().time())

    def _procedure_ended(self) -> None:
        self.guard.check()
        if (self.db.last_error is not None) is not ("state_full" in self._last_conditions):
            self.changed()
        if self.volume.state.overwrite_map.sets.stale and self.backup.is_reachable:
            self.resync.kick()

    def _take_back_primary(self, path: str) -> None:
        """The disk was only late when the volume was opened."""
        self._taking_back = get_running_loop().create_task(self._replace_quietly(path))

    async def _replace_quietly(self, path: str) -> None:
        try:
            await self.replace_primary(path)
        except RestoreError as error:
            sentence = f"{path} cannot be used again: {error}"
            line = log_line(sentence, volume=self.name, operation="replace-primary")
            log.error(line)  # noqa: TRY400

    def changed(self) -> None:
        """Tell the service when what holds of the volume is something else."""
        if self.backup.is_reachable:
            self.resync.kick()
        self.link.merge_changed()
        conditions = conditions_of(self)
        self.events.observe(self, conditions)
        if conditions == self._last_conditions:
            return
        before, self._last_conditions = self._last_conditions, conditions
        for word in conditions:
            if word not in before:
                level = logging.INFO if word in QUIET_CONDITIONS else logging.WARNING
                sentence = f"state {word}. {ADVICE[word]}"
                log.log(level, log_line(sentence, volume=self.name, operation="state"))
        self._report(self.name, conditions[0])

    def _settled(self) -> None:
        self.is_settled = True
        self.changed()

    def _fence(self, mistake: BaseException) -> None:
        """Stop serving: an internal check failed. The committed map is left alone."""
        if self.mistake is None:
            self.mistake = mistake
            line = log_line("fenced", volume=self.name, operation="state")
            log.critical(line, exc_info=mistake)
        self.driver.is_fenced = True
        self._checkpoints.stop()
        self.heat_keeper.stop()
        self.changed()

    # --- verbs --------------------------------------------------------------------------

    def facts_now(self, diskless: bool) -> dict[str, Any]:
        """Return the facts to be kept with a commit of the map."""
        failure = self.volume.state.primary_failure
        return self.job_facts() | {"primary_failed": str(failure) if diskless else None}

    def job_facts(self) -> dict[str, Any]:
        """Return the facts that say how far the jobs are."""
        return {
            "counters": self.volume.state.counters.as_dict(),
            "merge": self.merge.state.value,
            "merge_bad_extents": self.merge.bad_extents,
            "resync_paused": self.resync.is_paused,
            "verify": self.verify.fact(),
        }

    async def keep_facts(self) -> None:
        """Make durable how far the jobs are."""
        await self.db.commit_facts(self.job_facts())

    async def run_verb(self, verb: str, procedure: Callable[[], Procedure[None]]) -> None:
        """Run an admin's *procedure*, one at a time. Raises WrongStateError and what it raises."""
        try:
            with self.alone(verb), self.events.verb(verb):
                await self.driver.run(procedure())
        finally:
            self.changed()

    @contextmanager
    def alone(self, verb: str) -> Iterator[None]:
        """Keep other verbs out within the block. Raises WrongStateError if one is under way."""
        if self.is_preparing:
            raise WrongStateError(self.name, verb, "another command is under way; try again")
        self.is_preparing = True
        try:
            yield
        finally:
            self.is_preparing = False

    async def replace_primary(self, path: str) -> None:
        """Make the disk at *path* the primary. See ``primary_guard.PrimaryGuard.replace``."""
        with (
            self.alone("replace the primary"),
            self.events.verb(f"replace the primary by {path}"),
        ):
            self.facts["primary_identity"] = await self.guard.replace(path)
        self.merge.primary_replaced()
        self.definition = replace(self.definition, primary=path)

    async def set_snapshot(self, snapshot: BlockSource, record: dict[str, Any]) -> None:
        """Use *snapshot* from now on; *record* is what a restart needs to find it again."""
        await self.db.commit_facts({"snapshot": record})
        self.facts["snapshot"] = record
        self.events.add("command", f"Command: attach the snapshot {record['source']}.")
        self.use_snapshot(snapshot, record)
        self.performer.timing.forget(Leg.SNAPSHOT)
        self.changed()

    def use_snapshot(self, snapshot: BlockSource, record: dict[str, Any]) -> None:
        """Read from *snapshot* what its record says that it covers (MRG-3)."""
        state, extents = self.volume.state, record.get("extents")
        selected = None if extents is None else [Extent(*extent) for extent in extents]
        state.selection = select(state.geometry, selected)
        self.performer.snapshot = snapshot

    async def drop_snapshot(self) -> None:
        """Forget the snapshot, close it, and take its link down.

        Raises:
            WrongStateError: the merge needs it. LinkCommandError: the snapshot is detached, but its
                link may still be up.
        """
        if self.merge.state in (MergeState.RUNNING, MergeState.PAUSED):
            raise WrongStateError(self.name, "detach the snapshot", "the merge is not finished")
        snapshot = self.performer.snapshot
        if snapshot is None:
            raise WrongStateError(self.name, "detach the snapshot", "none is attached")
        await self.db.commit_facts({"snapshot": None})
        self.facts["snapshot"] = None
        self.performer.snapshot = None
        self.volume.state.selection = select(self.volume.state.geometry, None)
        self.events.add("command", "Command: detach the snapshot.")
        await snapshot.close()
        await self.link.take_down()
        self.link.settings = LinkSettings()

    async def close(self) -> None:
        """Answer what is held, let what runs end, commit, and close everything. Never raises."""
        self._settle.cancel()
        self.is_settled = False
        self._checkpoints.stop()
        self.heat_keeper.stop()
        self.resync.stop()
        self.verify.stop()
        self.merge.close()
        self.commands.close()
        if self.performer.snapshot is not None:  # what it still sends may take long to arrive
            await self.performer.snapshot.close()
        await self.link.close()
        try:
            await wait_for(self._idle.wait(), CLOSE_SECONDS)
            await wait_for(self.driver.wait_idle(), CLOSE_SECONDS)
            await self._last_checkpoints()
            await self.db.commit_facts(self.job_facts() | self.heat_keeper.facts())
        except (RestoreError, TimeoutError) as error:
            sentence = f"not closed cleanly: {error}"
            log.warning(log_line(sentence, volume=self.name, operation="close"))
        await self.backup.close()
        await self.guard.close()
        if self.performer.primary is not None:
            await self.performer.primary.close()
        await self.db.close()

    async def _last_checkpoints(self) -> None:
        """Twice: a zone is disarmed once it was idle between two checkpoints."""
        for _ in range(2):
            ended = get_running_loop().create_future()
            self.driver.start(self.volume.checkpoint(), ended.set_result)
            error = await wait_for(ended, CLOSE_SECONDS)
            if isinstance(error, RestoreError):
                raise error
