"""Watches over a volume's primary: notices its failure and its return, and replaces it."""

from __future__ import annotations

import logging
import os
from asyncio import Task, get_running_loop
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..core.state import VolumeState
from ..core.volume import Volume
from ..errors import (
    BlockSizeMismatchError,
    PrimaryInUseError,
    PrimaryTooSmallError,
    RestoreError,
    SourceUnreachableError,
    WrongStateError,
)
from ..log_line import log_line
from ..sources.base import BlockStore
from ..sources.block_device import identity_of
from ..sources.file import FileStore
from .device_event import DeviceNumber
from .device_watch import DeviceWatch, WatchHandle
from .driver import Driver
from .performer import StorePerformer

log = logging.getLogger(__name__)


class Owner(Protocol):
    """What the guard needs of the volume's engine."""

    name: str
    volume: Volume
    driver: Driver
    performer: StorePerformer

    def changed(self) -> None:
        """The volume's state may be another one."""


class PrimaryGuard:
    """For the event loop's thread. *identity* is the recorded one of the primary."""

    def __init__(
        self,
        owner: Owner,
        *,
        identity: str,
        watch: DeviceWatch | None,
        on_returned_by_itself: Callable[[str], None],
    ) -> None:
        self.identity = identity
        self.returned_path: str | None = None
        """Where the failed disk, or one with its identity, is there again."""
        self._owner = owner
        self._watch = watch
        self._handle: WatchHandle | None = None
        self._closing: Task[None] | None = None
        self._on_returned_by_itself = on_returned_by_itself
        self._was_missing = False
        """Not there when the volume was opened: taken when it comes, it was only late."""
        self._has_noticed = self._state.is_diskless
        self._watch_primary()

    @property
    def _state(self) -> VolumeState:
        return self._owner.volume.state

    def was_missing(self) -> None:
        """The disk was not there when the volume was opened; if it only is late, take it."""
        self._was_missing = True

    # --- failure ----------------------------------------------------------------------------

    def _watch_primary(self) -> None:
        primary = self._owner.performer.primary
        number = primary.device_number if isinstance(primary, FileStore) else None
        if self._watch is not None and number is not None:
            self._handle = self._watch.register(number, self._removed)

    def _removed(self, number: DeviceNumber) -> None:
        del number
        primary = self._owner.performer.primary
        name = primary.name if primary is not None else "the primary"
        self._state.fail_primary(SourceUnreachableError(name, "the device was removed"))
        self.check()

    def check(self) -> None:
        """To be called when a procedure has ended: take note of a failure (LOSS-2)."""
        if self._has_noticed or not self._state.is_diskless:
            return
        self._has_noticed = True
        owner = self._owner
        sentence = (
            f"the primary failed and is not used any more: {self._state.primary_failure}. "
            "Everything is served by the backup; replace the disk with: "
            f"tcmu-restore replace-primary {owner.name} --primary DISK"
        )
        log.error(log_line(sentence, volume=owner.name, operation="primary"))
        self._let_go()
        owner.driver.start(owner.volume.flush(), lambda _: None)  # the loss is to be durable soon
        owner.changed()

    def _let_go(self) -> None:
        """Close the failed disk once nothing is in flight on it."""
        self._unwatch()
        primary, self._owner.performer.primary = self._owner.performer.primary, None
        if primary is not None:
            self._closing = get_running_loop().create_task(primary.close())

    # --- return -----------------------------------------------------------------------------

    def appeared(self, names: frozenset[str], configured: str) -> None:
        """A block device appeared. *configured* is the path in the volume's definition."""
        if not self._state.is_diskless or self.returned_path is not None:
            return
        for name in sorted(names, key=lambda name: name != configured):
            if identity_of(name) == self.identity:
                self._found(configured if configured in names else name)
                return

    def _found(self, path: str) -> None:
        self.returned_path = path
        number = Path(path).stat().st_rdev
        if self._watch is not None:
            numbers = (os.major(number), os.minor(number))
            self._handle = self._watch.register(numbers, self._gone_again)
        sentence = f"its failed primary is there again: {path}"
        log.warning(log_line(sentence, volume=self._owner.name, operation="primary"))
        if self._was_missing:
            self._was_missing = False
            self._on_returned_by_itself(path)
        self._owner.changed()

    def _gone_again(self, number: DeviceNumber) -> None:
        del number
        self.returned_path = None
        self._owner.changed()

    # --- replacement ------------------------------------------------------------------------

    async def replace(self, path: str) -> str:
        """Make the disk at *path* the primary; return its identity. The restore starts by itself.

        Raises:
            PrimaryInUseError, PrimaryUnusableError, PrimaryTooSmallError, BlockSizeMismatchError:
                that disk cannot be used.
            WrongStateError: the primary is in order and holds what the backup lacks, or is *path*.
            StateWriteError: the state file cannot be written.
        """
        state = self._state
        if not state.is_diskless and state.overwrite_map.sets.stale:
            count = len(state.overwrite_map.sets.stale)
            reason = f"{count} regions are not on the backup yet; wait for the resync"
            raise WrongStateError(self._owner.name, "replace the primary", reason)
        store = self._open(path)
        try:
            await self._adopt(store)
        except BaseException:
            await store.close()
            raise
        return self.identity

    def _open(self, path: str) -> FileStore:
        if not self._state.is_diskless and identity_of(path) == self.identity:
            raise PrimaryInUseError(path, f"it is the primary of {self._owner.name!r} already")
        store = FileStore.open(path)
        geometry, found = self._state.geometry, store.geometry
        problem: RestoreError | None = None
        if found.size < geometry.size:
            problem = PrimaryTooSmallError(path, found.size, geometry.size)
        elif found.block_size > geometry.block_size:
            problem = BlockSizeMismatchError(
                f"The disk {path}", found.block_size, geometry.block_size
            )
        if problem is not None:
            get_running_loop().create_task(store.close())
            raise problem
        return store

    async def _adopt(self, store: FileStore) -> None:
        owner, state = self._owner, self._state
        state.fail_primary(SourceUnreachableError("the primary", "it is being replaced"))
        self.check()
        if self._closing is not None:
            await self._closing  # nothing is in flight on the old disk any more
        same_disk = store.geometry.identity == self.identity
        if same_disk:
            await store.drop_cache()
        offered: BlockStore = store
        owner.performer.offered = offered
        try:
            await owner.driver.run(owner.volume.replace_primary(same_disk=same_disk))
        finally:
            owner.performer.offered = None
        self._unwatch()
        self.identity = store.geometry.identity
        self.returned_path, self._has_noticed, self._was_missing = None, False, False
        self._watch_primary()
        sentence = f"{store.name} is the primary now"
        log.info(log_line(sentence, volume=owner.name, operation="replace-primary"))
        owner.changed()

    def _unwatch(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    async def close(self) -> None:
        """Stop watching; return when a failed disk is closed."""
        self._unwatch()
        if self._closing is not None:
            await self._closing
