"""What the procedures of one volume share. Changed only between awaits, or under a lock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pyroaring import BitMap64

from ..errors import RestoreError
from .effects import Leg
from .extent import Extent
from .extent_lock import ExtentLocks
from .fetch_table import FetchTable
from .geometry import Geometry
from .heat import Heat
from .intent_log import IntentLog
from .mirroring import MirrorPolicy
from .overwrite_map import OverwriteMap
from .progress import Counters
from .readahead import Readahead
from .selection import Selection


@dataclass(slots=True, eq=False)
class VolumeState:
    """One volume's state in memory."""

    geometry: Geometry
    overwrite_map: OverwriteMap
    intent: IntentLog
    fetch_ahead_max: int
    populate_backlog_max: int
    policy: MirrorPolicy = MirrorPolicy.SYNC
    mirror_backlog_max: int = 0
    """Bytes that may be stale before an ASYNC write waits for the backup."""

    first_source: Callable[[Extent], Leg] = field(default=lambda _: Leg.BACKUP)
    """Whom to ask for bytes that the backup and the snapshot have alike: who answers sooner."""

    counters: Counters = field(default_factory=Counters)
    locks: ExtentLocks = field(default_factory=ExtentLocks)
    heat: Heat = field(init=False)
    fetches: FetchTable = field(init=False)
    readahead: Readahead = field(init=False)
    selection: Selection = field(init=False)
    """What the attached snapshot covers."""

    unflushed: dict[int, BitMap64] = field(default_factory=dict)
    """Regions the backup has acknowledged but not flushed, by durability epoch (MIR-2)."""

    backup_flushing: dict[int, BitMap64] = field(default_factory=dict)
    """What *unflushed* held when the backup's flush now in flight began."""

    backup_epoch: int = 0
    """The newest durability epoch of the backup that is known to have begun."""

    backup_only: BitMap64 = field(default_factory=BitMap64)
    """Regions that were lost while the backup had not flushed what was written to them.

    A committed image calls them outdated: after a restart nobody could tell whether the backup
    has forgotten them meanwhile (LOSS-3).
    """

    primary_unflushed: BitMap64 = field(default_factory=BitMap64)
    """Regions written on the primary, or being written, since its last flush began."""

    primary_flushing: BitMap64 = field(default_factory=BitMap64)
    """What *primary_unflushed* held when the primary's flush now in flight began."""

    primary_failure: RestoreError | None = None
    """Why the primary is failed; the volume is diskless then (LOSS-2)."""

    flushes_begun: int = 0
    flushes_ended: int = 0
    """Flushes so far; *ended* holds the number of the last one that succeeded."""

    def __post_init__(self) -> None:
        self.heat = Heat(self.geometry)
        self.fetches = FetchTable(self.geometry)
        self.readahead = Readahead(self.fetch_ahead_max)
        self.selection = Selection(self.geometry.region_count)

    @property
    def is_diskless(self) -> bool:
        """Whether everything is served and written remotely."""
        return self.primary_failure is not None

    @property
    def mirrors_later(self) -> bool:
        """Whether a write that comes now is sent to the backup by resync."""
        if self.policy is not MirrorPolicy.ASYNC or self.is_diskless:
            return False
        stale = len(self.overwrite_map.sets.stale)
        return stale * self.geometry.region_size < self.mirror_backlog_max

    def grow(self, geometry: Geometry) -> None:
        """The volume has grown to *geometry*, of the same regions and zones."""
        assert geometry.size > self.geometry.size
        assert geometry.region_size == self.geometry.region_size
        assert geometry.zone_size == self.geometry.zone_size
        self.overwrite_map.grow(geometry.region_count)
        self.intent.grow(geometry.zone_count)
        self.fetches.grow(geometry)
        self.heat.grow(geometry)
        self.selection = Selection(geometry.region_count)  # no snapshot is attached
        self.geometry = geometry

    # --- the primary ----------------------------------------------------------------------

    def primary_write_began(self, regions: BitMap64) -> None:
        """A write to *regions* of the primary is about to be sent."""
        self.primary_unflushed.update(regions)

    def primary_write_ended(self, regions: BitMap64) -> None:
        """It is over: done and not flushed, or nobody knows what the failed primary holds."""
        if self.is_diskless:
            self.overwrite_map.forget_kept(regions)
        else:
            self.primary_unflushed.update(regions)

    def lose(self, regions: BitMap64) -> None:
        """The primary's copies of *regions* cannot be used.

        What it had flushed of them is kept, should it be the disk as a whole that failed, and be
        given back.
        """
        found = regions & self.overwrite_map.sets.current
        for unflushed in (*self.unflushed.values(), *self.backup_flushing.values()):
            self.backup_only.update(found & unflushed)
        self.overwrite_map.mark_lost(found)
        self.overwrite_map.keep(found - self.primary_unflushed - self.primary_flushing)

    def fail_primary(self, cause: RestoreError) -> None:
        """Trust nothing on the primary any more and go on diskless (LOSS-2)."""
        if self.is_diskless:
            return
        self.primary_failure = cause
        self.lose(self.overwrite_map.sets.current.copy())

    def adopt_primary(self, *, same_disk: bool) -> None:
        """A primary is attached: another disk, or the failed one with what it keeps."""
        assert self.is_diskless
        if same_disk:
            self.overwrite_map.restore_kept()
        else:
            self.overwrite_map.forget_kept(self.overwrite_map.sets.kept.copy())
        self.primary_unflushed.clear()
        self.primary_failure = None

    # --- the backup -------------------------------------------------------------------------

    def note_unflushed(self, regions: BitMap64, epoch: int) -> None:
        """The backup took a write to *regions* in *epoch*; stale if that is over (MIR-2)."""
        if epoch < self.backup_epoch:
            self.overwrite_map.mark_stale(regions)
            return
        self.unflushed.setdefault(epoch, BitMap64()).update(regions)

    def note_backup_newest(self, regions: BitMap64, epoch: int) -> None:
        """In *epoch* the backup took all of *regions*: those are not outdated any more.

        Outdated again if it forgets them before they are flushed.
        """
        if epoch < self.backup_epoch:
            return
        self.backup_only.update(regions & self.overwrite_map.sets.outdated)
        self.overwrite_map.mark_backup_newest(regions)

    def begin_epoch(self, epoch: int) -> None:
        """The backup may have forgotten what it had not flushed before *epoch*."""
        self.backup_epoch = max(self.backup_epoch, epoch)
        for past in [number for number in self.unflushed if number < epoch]:
            self.doubt_unflushed(self.unflushed.pop(past))
        for past, regions in self.backup_flushing.items():
            if past < epoch:  # the flush in flight settles them again, for its image
                self.doubt_unflushed(regions)

    def doubt_unflushed(self, regions: BitMap64) -> None:
        """The backup may have forgotten the unflushed bytes of *regions*, or may yet (MIR-2).

        Current ones become stale. Lost ones that only the backup had become outdated (LOSS-3).
        Others that are lost go on as unflushed: what is fetched of them before the next flush may
        still be forgotten there.
        """
        self.overwrite_map.mark_stale(regions)
        self.fetches.spoil_regions(regions)
        gone = (regions & self.backup_only) - self.overwrite_map.sets.current
        self.overwrite_map.mark_outdated(gone)
        self.backup_only.difference_update(regions)
        lost = regions - self.overwrite_map.sets.current - gone
        if lost:
            self.note_unflushed(lost, self.backup_epoch)

    def backup_flushed(self, regions: BitMap64) -> None:
        """The backup has made what it had of *regions* durable; later writes are noted anew."""
        durable = regions & self.backup_only
        for unflushed in self.unflushed.values():
            durable.difference_update(unflushed)
        self.backup_only.difference_update(durable)
        self.overwrite_map.touch(durable)  # an earlier image calls them outdated
