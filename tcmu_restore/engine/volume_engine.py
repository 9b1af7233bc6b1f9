"""One open volume: its stores, its core, its jobs, wired together.

Everything here runs on the event loop's thread. ``open_engine`` never waits for
a peer: the backup may be away for hours, and current regions are served all the
same.
"""

from __future__ import annotations

import logging
from asyncio import Event, get_running_loop, wait_for
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.extent import Extent
from ..core.volume import Volume
from ..errors import RestoreError, WrongStateError
from ..sources.base import BlockSource, BlockStore
from ..sources.iscsi import IscsiStore
from .background import Checkpoints, ResyncJob
from .command import Command, CommandKind
from .command_queue import CommandQueue
from .definition import Definition
from .driver import Driver
from .merge_job import MergeJob, MergeState
from .performer import StorePerformer
from .state_db import StateDb
from .status import state_of

log = logging.getLogger(__name__)

RESYNC_STEP = 256 * 1024
"""One resync step holds its lock while the bytes cross the live link: kept short for that."""

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


class VolumeEngine:
    """An open volume. Made by ``opening.open_engine``."""

    def __init__(self, parts: Parts, on_change: Callable[[str, str], None]) -> None:
        self.name = parts.name
        self.definition = parts.definition
        self.volume = volume = parts.volume
        self.db = parts.db
        self.backup = parts.backup
        self.primary = parts.primary
        self.facts = parts.facts
        self.mistake: BaseException | None = None
        self._report = on_change
        self._last_state = ""
        self._is_settled = False
        self._settle = get_running_loop().call_later(SETTLE_SECONDS, self._settled)
        self._idle = Event()
        self._idle.set()
        options = self.definition.options
        self.performer = StorePerformer(self.db, self.backup, self.primary, self.facts_now)
        self.driver = Driver(volume.state.locks, self.performer, self._fence)
        self.commands = CommandQueue(volume, self.driver, options, self._idle.set)
        self.commands.unreachable_since = get_running_loop().time()
        self.merge = MergeJob(
            volume,
            self.driver,
            step_length=options.merge_step,
            depth=options.merge_depth,
            on_change=self.changed,
        )
        self.resync = ResyncJob(volume, self.driver, step_length=RESYNC_STEP)
        self._checkpoints = Checkpoints(volume, self.driver, options, on_ended=self.changed)
        self._checkpoints.start()

    @property
    def region_size(self) -> int:
        """Bytes a region."""
        return self.volume.state.geometry.region_size

    @property
    def snapshot(self) -> BlockSource | None:
        """The attached snapshot, or None."""
        return self.performer.snapshot

    # --- the data path ------------------------------------------------------------------

    def submit(self, command: Command) -> None:
        """Take *command*; its ``complete`` is called exactly once, perhaps before this returns."""
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
        if self.primary is None or not self.volume.is_current(Extent(offset, length)):
            return False
        if not self.primary.read_now(offset, command.buffers):
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
            self.commands.source_changed()
            self.merge.source_changed()
        else:
            self.volume.backup_epoch_began(self.backup.epoch)
        self.changed()

    def snapshot_changed(self, reachable: bool) -> None:
        """The snapshot's session came up or was lost."""
        if reachable:
            self.merge.source_changed()
            self.commands.source_changed()
        self.changed()

    def changed(self) -> None:
        """Tell the service when the state is another one."""
        if self.backup.is_reachable:
            self.resync.kick()
        state = state_of(self)
        if state == "degraded" and not self._is_settled:
            return  # the first login is under way, or the volume is being closed
        if state != self._last_state:
            self._last_state = state
            log.info("volume %s: state %s", self.name, state)
            self._report(self.name, state)

    def _settled(self) -> None:
        self._is_settled = True
        self.changed()

    def _fence(self, mistake: BaseException) -> None:
        """Stop serving: an internal check failed. The committed map is left alone."""
        if self.mistake is None:
            self.mistake = mistake
            log.critical("volume %s: fenced", self.name, exc_info=mistake)
        self.driver.is_fenced = True
        self._checkpoints.stop()
        self.changed()

    # --- verbs --------------------------------------------------------------------------

    def facts_now(self) -> dict[str, Any]:
        """Return the facts to be kept with a commit."""
        return {
            "counters": self.volume.state.counters.as_dict(),
            "merge": self.merge.state.value,
        }

    async def set_snapshot(self, snapshot: BlockSource, record: dict[str, Any]) -> None:
        """Use *snapshot* from now on; *record* is what a restart needs to find it again."""
        await self.db.commit_facts({"snapshot": record})
        self.facts["snapshot"] = record
        self.performer.snapshot = snapshot
        self.changed()

    async def drop_snapshot(self) -> None:
        """Forget the snapshot and close it. Raises WrongStateError while the merge needs it."""
        if self.merge.state in (MergeState.RUNNING, MergeState.PAUSED):
            raise WrongStateError(self.name, "detach the snapshot", "the merge is not finished")
        snapshot = self.performer.snapshot
        if snapshot is None:
            raise WrongStateError(self.name, "detach the snapshot", "none is attached")
        await self.db.commit_facts({"snapshot": None})
        self.facts["snapshot"] = None
        self.performer.snapshot = None
        await snapshot.close()

    async def merge_verb(self, verb: str) -> None:
        """Carry out start, pause, resume or cancel; the new state is durable on return."""
        merge, allowed = self.merge, _ALLOWED[verb]
        if merge.state not in allowed:
            raise WrongStateError(self.name, f"{verb} the merge", f"it is {merge.state.value}")
        if self.performer.snapshot is None and verb in ("start", "resume"):
            raise WrongStateError(self.name, f"{verb} the merge", "no snapshot is attached")
        {"start": merge.start, "pause": merge.pause, "resume": merge.resume, "cancel": merge.stop}[
            verb
        ]()
        await self.db.commit_facts(self.facts_now())

    async def close(self) -> None:
        """Answer what is held, let what runs end, commit, and close everything. Never raises."""
        self._settle.cancel()
        self._is_settled = False
        self._checkpoints.stop()
        self.resync.stop()
        self.merge.close()
        self.commands.close()
        if self.performer.snapshot is not None:  # what it still sends may take long to arrive
            await self.performer.snapshot.close()
        try:
            await wait_for(self._idle.wait(), CLOSE_SECONDS)
            await wait_for(self.driver.wait_idle(), CLOSE_SECONDS)
            await self._last_checkpoints()
            await self.db.commit_facts(self.facts_now())
        except (RestoreError, TimeoutError) as error:
            log.warning("volume %s: not closed cleanly: %s", self.name, error)
        await self.backup.close()
        if self.primary is not None:
            await self.primary.close()
        await self.db.close()

    async def _last_checkpoints(self) -> None:
        """Twice: a zone is disarmed once it was idle between two checkpoints."""
        for _ in range(2):
            ended = get_running_loop().create_future()
            self.driver.start(self.volume.checkpoint(), ended.set_result)
            error = await wait_for(ended, CLOSE_SECONDS)
            if isinstance(error, RestoreError):
                raise error


_ALLOWED = {
    "start": (MergeState.IDLE, MergeState.DONE),
    "pause": (MergeState.RUNNING,),
    "resume": (MergeState.PAUSED,),
    "cancel": (MergeState.RUNNING, MergeState.PAUSED),
}
