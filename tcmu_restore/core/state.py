"""What the procedures of one volume share. Changed only between awaits, or under a lock."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyroaring import BitMap64

from ..errors import RestoreError
from .extent_lock import ExtentLocks
from .fetch_table import FetchTable
from .geometry import Geometry
from .intent_log import IntentLog
from .overwrite_map import OverwriteMap
from .progress import Counters
from .readahead import Readahead


@dataclass(slots=True, eq=False)
class VolumeState:
    """One volume's state in memory."""

    geometry: Geometry
    overwrite_map: OverwriteMap
    intent: IntentLog
    fetch_ahead_max: int
    populate_backlog_max: int
    counters: Counters = field(default_factory=Counters)
    locks: ExtentLocks = field(default_factory=ExtentLocks)
    fetches: FetchTable = field(init=False)
    readahead: Readahead = field(init=False)
    unflushed: dict[int, BitMap64] = field(default_factory=dict)
    """Regions the backup has acknowledged but not flushed, by durability epoch (MIR-2)."""

    backup_epoch: int = 0
    """The newest durability epoch of the backup that is known to have begun."""

    primary_failure: RestoreError | None = None
    """Why the primary is failed; the volume is diskless then (LOSS-2)."""

    flushes_begun: int = 0
    flushes_ended: int = 0
    """Flushes so far; *ended* holds the number of the last one that succeeded."""

    loss_count: int = 0
    """Grows with each loss; bytes fetched before one are not populated after it."""

    def __post_init__(self) -> None:
        self.fetches = FetchTable(self.geometry)
        self.readahead = Readahead(self.fetch_ahead_max)

    @property
    def is_diskless(self) -> bool:
        """Whether everything is served and written remotely."""
        return self.primary_failure is not None

    def lose(self, regions: BitMap64) -> None:
        """The primary's copies of *regions* are gone."""
        self.loss_count += 1
        self.overwrite_map.mark_lost(regions)

    def fail_primary(self, cause: RestoreError) -> None:
        """Trust nothing on the primary any more and go on diskless (LOSS-2)."""
        if self.is_diskless:
            return
        self.primary_failure = cause
        self.lose(self.overwrite_map.sets.current.copy())

    def note_unflushed(self, regions: BitMap64, epoch: int) -> None:
        """The backup took a write to *regions* in *epoch*; stale if that is over (MIR-2)."""
        if epoch < self.backup_epoch:
            self.overwrite_map.mark_stale(regions)
            return
        self.unflushed.setdefault(epoch, BitMap64()).update(regions)

    def begin_epoch(self, epoch: int) -> None:
        """The backup may have forgotten what it had not flushed before *epoch*."""
        self.backup_epoch = max(self.backup_epoch, epoch)
        for past in [number for number in self.unflushed if number < epoch]:
            self.doubt_unflushed(self.unflushed.pop(past))

    def doubt_unflushed(self, regions: BitMap64) -> None:
        """The backup may have forgotten the unflushed bytes of *regions*, or may yet (MIR-2).

        Current ones become stale. Lost ones go on as unflushed: what is fetched of them before the
        next flush may still be forgotten there.
        """
        self.overwrite_map.mark_stale(regions)
        self.fetches.spoil_regions(regions)
        lost = regions - self.overwrite_map.sets.current
        if lost:
            self.note_unflushed(lost, self.backup_epoch)
