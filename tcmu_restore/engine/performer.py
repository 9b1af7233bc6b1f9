"""Carries the core's effects out on the stores of one volume."""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Callable
from typing import Any, assert_never

from ..core.effects import (
    AdoptPrimary,
    CommitIntent,
    CommitMap,
    CommitSize,
    FindZeros,
    Flush,
    Leg,
    Read,
    Write,
    Zero,
)
from ..core.extent import Extent
from ..core.state import VolumeState
from ..errors import SourceUnreachableError
from ..sources.base import BlockSource, BlockStore, ExtentKind
from .source_timing import SourceTiming
from .state_db import StateDb


class StorePerformer:
    """The stores behind the three legs. A missing one answers like an unreachable one.

    *facts* gives what is kept with each commit of the map; it is told whether the volume is
    diskless.
    """

    def __init__(
        self,
        db: StateDb,
        backup: BlockStore,
        primary: BlockStore | None,
        facts: Callable[[bool], dict[str, Any]],
        state: VolumeState,
    ) -> None:
        self.db = db
        self.backup = backup
        self.primary = primary
        self.offered: BlockStore | None = None
        """The disk that AdoptPrimary makes the primary."""
        self.size_facts: dict[str, Any] = {}
        """What CommitSize keeps with the size."""
        self.snapshot: BlockSource | None = None
        self._facts = facts
        self.timing = SourceTiming(self._remote, state.readahead, lambda: state.geometry.size)
        state.first_source = self.timing.first_source

    def perform(self, effect: Read | Write | Zero | Flush | FindZeros) -> Future[Any]:
        """Start a transfer."""
        match effect:
            case Read():
                source = self._source(effect.leg)
                return self.timing.read(effect.leg, source, effect.extent.offset, effect.buffers)
            case Write():
                return self._store(effect.leg).write(effect.extent.offset, effect.buffers)
            case Zero():
                return self._store(effect.leg).zero(effect.extent)
            case Flush():
                return self._store(effect.leg).flush()
            case FindZeros():
                return self._find_zeros(effect.extent)
            case _:
                assert_never(effect)

    def commit(self, effect: CommitMap | CommitIntent | AdoptPrimary | CommitSize) -> Future[None]:
        """Start a commit; the state file keeps the order of these calls."""
        match effect:
            case CommitMap():
                return self.db.commit_map(effect.image, self._facts(effect.diskless))
            case CommitIntent():
                return self.db.commit_intent(effect.armed, effect.disarmed)
            case AdoptPrimary():
                return self._adopt(effect)
            case CommitSize():
                return self.db.commit_facts(self.size_facts | {"size": effect.size})
            case _:
                assert_never(effect)

    def _adopt(self, effect: AdoptPrimary) -> Future[None]:
        assert self.offered is not None
        facts = self._facts(False) | {"primary_identity": self.offered.geometry.identity}
        committed = self.db.commit_map(effect.image, facts)
        committed.add_done_callback(self._adopted)  # before the procedure goes on
        return committed

    def _adopted(self, committed: Future[None]) -> None:
        if not committed.cancelled() and committed.exception() is None:
            self.primary, self.offered = self.offered, None

    def _remote(self, leg: Leg) -> BlockSource | None:
        return self.backup if leg is Leg.BACKUP else self.snapshot

    def _source(self, leg: Leg) -> BlockSource:
        if leg is not Leg.SNAPSHOT:
            return self._store(leg)
        if self.snapshot is None:
            raise SourceUnreachableError("the snapshot", "none is attached")
        return self.snapshot

    def _store(self, leg: Leg) -> BlockStore:
        if leg is Leg.BACKUP:
            return self.backup
        if self.primary is None:
            raise SourceUnreachableError("the primary", "the volume is diskless")
        return self.primary

    def _find_zeros(self, extent: Extent) -> Future[list[Extent]]:
        found: Future[list[Extent]] = get_running_loop().create_future()
        known = self._source(Leg.SNAPSHOT).extents(extent)

        def answer(future: Future[list[tuple[ExtentKind, int]]]) -> None:
            if found.done():
                return
            error = future.exception()
            found.set_result([] if error else list(_zeros(extent, future.result())))

        known.add_done_callback(answer)
        return found


def _zeros(extent: Extent, kinds: list[tuple[ExtentKind, int]]) -> list[Extent]:
    """Return the known zeros. What a peer says is clipped to *extent*, never trusted beyond it."""
    zeros = []
    offset = extent.offset
    for kind, length in kinds:
        if length > 0 and kind is ExtentKind.ZERO:
            part = Extent(offset, length).intersection(extent)
            if part is not None:
                zeros.append(part)
        offset += max(0, length)
    return zeros
