"""What the service needs of the engine, and what a status looks like.

The engine implements :class:`Registry`; the service only calls it, on the loop's thread. Every
method may raise any class of ``tcmu_restore.errors``. ``Status`` answers with the JSON text of a
:class:`VolumeStatus`: its keys are the documented interface of scripts, so keys are added, never
renamed or dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NotRequired, Protocol, TypedDict

VolumeState = Literal[
    "fenced",  # an internal check failed; nothing is served
    "failed",  # nothing can be served: diskless, and the backup cannot be reached
    "outdated",  # newest acknowledged bytes are gone; reads of them fail until that is accepted
    "diskless",  # the primary is gone; everything is served by the backup
    "degraded",  # the backup cannot be reached
    "state_full",  # the state file cannot be written: writes to new places and flushes wait
    "resyncing",  # stale regions are being sent to the backup
    "restoring",  # regions are lost; everything is served
    "in_doubt",  # lost regions that only the live backup may fill
    "in_sync",  # the primary and the backup hold everything
    "closed",  # defined, but no LIO backstore has opened it; never a condition beside others
]
"""The most important condition that holds, or ``closed``; the most important one comes first."""

MergeState = Literal["idle", "running", "paused", "done", "failed"]
ResyncState = Literal["idle", "running", "paused", "waiting"]
VerifyState = Literal["idle", "running", "paused", "done"]
MirrorMode = Literal["sync", "async", "strict"]


class RegionCounts(TypedDict):
    """Numbers of regions; *stale* and *host_written* are current, the last two are lost."""

    total: int
    current: int
    lost: int
    stale: int
    host_written: int
    in_doubt: int
    outdated: NotRequired[int]


class Condition(TypedDict):
    """One thing that holds, by the name of a state, and a sentence on what to do about it."""

    name: VolumeState
    advice: str


class Event(TypedDict):
    """What happened to a volume since it was opened; *time* is ISO 8601 in UTC.

    *word* is ``condition_began``, ``condition_ended``, ``merge``, ``command``, ``command_failed``;
    more may be added. *count*: how often it happened lately, *time* being the last one's.
    """

    time: str
    word: str
    sentence: str
    count: int


class Traffic(TypedDict):
    """What a source moved since it was opened; absent where it is not counted, as of a file."""

    latency_ms: NotRequired[float | None]
    read_bytes: NotRequired[int]
    written_bytes: NotRequired[int]
    retried_commands: NotRequired[int]
    failed_commands: NotRequired[int]
    session_losses: NotRequired[int]
    read_latency_ms: NotRequired[float | None]  # of small reads lately; decides who is asked first
    read_rate_bytes_per_second: NotRequired[float]  # over the last seconds
    asked_first: NotRequired[bool]  # for lost regions that both sources may serve


class PrimaryStatus(TypedDict):
    """The local disk: its path, one word about it, and why it failed if it did.

    *returned*: the failed disk, or one with its identity, is there again, at *returned_path*, and
    can be given back with ReplacePrimary.
    """

    path: str
    state: str
    reason: NotRequired[str | None]
    returned: NotRequired[bool]
    returned_path: NotRequired[str | None]


class BackupStatus(Traffic):
    """The live copy. *reason* says why it cannot be reached, else it is empty or null."""

    url: str
    reachable: bool
    reason: str | None
    identity: NotRequired[str]  # as recorded; snapshot-export wants it


class SnapshotStatus(Traffic):
    """The attached static copy; *source* is a URL or a path.

    *extents* are the first 100 pairs of offset and length of a selected data set, null for the
    whole volume; *bytes_covered* counts whole regions of all of them.
    """

    source: str
    reachable: bool
    reason: str | None
    extents: NotRequired[list[tuple[int, int]] | None]
    bytes_covered: NotRequired[int]


class ShippedSnapshot(TypedDict):
    """An exported snapshot of this volume on a disk that is here; *taken* is ISO 8601.

    *problem* says why it should not be attached, or is empty.
    """

    path: str
    taken: str
    problem: str


class BulkLinkStatus(TypedDict):
    """The link to the snapshot, where commands bring it up and take it down.

    *reason* says why the last of them failed, else it is empty. *take_down* is the command line
    that takes the link down, or is empty while it is down.
    """

    state: Literal["down", "coming up", "up", "going down", "unknown"]
    reason: str
    take_down: str


class MergeStatus(TypedDict):
    """The background copy. *seconds_left* is null as long as there is no honest estimate.

    Of a snapshot that covers a part, the bytes are those of that part.

    *bad_extents* of an exported snapshot were damaged; *report* says so in a sentence, or is empty.
    """

    state: MergeState
    reason: str | None
    bytes_done: int
    bytes_total: int
    rate_bytes_per_second: float
    seconds_left: float | None
    bad_extents: NotRequired[int]
    report: NotRequired[str]


class ResyncStatus(TypedDict):
    """Sending stale regions to the backup. *reason* says what it waits for, else it is empty."""

    state: ResyncState
    reason: str | None
    bytes_left: int
    rate_bytes_per_second: float
    seconds_left: float | None


class VerifyStatus(TypedDict):
    """The comparison of primary and backup. At most 100 extents are listed; all are counted."""

    state: VerifyState
    reason: str | None
    repair: Literal["none", "primary", "backup"]
    bytes_done: int
    bytes_total: int
    rate_bytes_per_second: float
    seconds_left: float | None
    regions_differing: int
    differing_extents: list[tuple[int, int]]


class HeatStatus(TypedDict):
    """What hosts access most, by a decaying count; a merge begins with it.

    *accesses* are those that are remembered, *chunk_size* is the grain of counting. *hot_bytes*
    are accessed far more than the mean, *hot_bytes_current* of them are local.
    """

    accesses: int
    chunk_size: int
    hot_bytes: int
    hot_bytes_current: int


class StateFileStatus(TypedDict):
    """Where the volume's state is kept. *error* is empty, or says why the file cannot be used, or,
    of a volume that is being served, why it cannot be written just now."""

    path: str
    error: str | None


class LioStatus(TypedDict):
    """Of a volume that is not being served: *skipped*, its backstore is saved but not loaded;
    *unserved*, it is loaded but could not be opened. *handover*: one was begun and is not finished.
    Only ``tcmu-restore status`` adds it."""

    state: Literal["skipped", "unserved", "handover"]
    saved_in: str


class RestoreFromStatus(TypedDict):
    """A restore-from that is running or was interrupted, and the commands for it.

    *error* is empty, or says why its record cannot be read; then there is nothing else.
    """

    error: str
    go_on: str
    remove: str
    host: NotRequired[str]
    origin: NotRequired[str]
    snapshot: NotRequired[str]
    step: NotRequired[Literal["create", "attach", "merge", "detach", "delete"]]
    began: NotRequired[str]


class VolumeStatus(TypedDict):
    """One volume. Sizes are bytes; *advice* is one sentence that says what to do next.

    A volume in the state ``closed`` has only *volume*, *state* and *advice*, the sizes where they
    are known, *restored* and perhaps *state_file*. *conditions* are all that hold, most important
    first; *state* and *advice* are the first one's. *outdated_extents* are at most 100 pairs of
    offset and length; ``regions.outdated`` counts them all. *events* are the last 50, oldest first.
    *lio_size* is what LIO's backstore has, less than *size* while a resize is not finished;
    *protected*: the admin wants it to stay mirrored; *restored*: everything is on the primary.
    *counters* are ``reads_from_backup``,
    ``bytes_read_from_backup``, ``regions_merged`` and so on; more may be added.
    """

    volume: str
    state: VolumeState
    advice: str
    size: int
    block_size: NotRequired[int]  # logical block of the LUN; 512 if absent
    region_size: int
    regions: RegionCounts
    primary: PrimaryStatus
    backup: BackupStatus
    snapshot: SnapshotStatus | None
    merge: MergeStatus
    armed_zones: NotRequired[int]
    counters: dict[str, int]
    conditions: NotRequired[list[Condition]]
    mirror: NotRequired[MirrorMode]
    outdated_extents: NotRequired[list[tuple[int, int]]]
    resync: NotRequired[ResyncStatus]
    state_file: NotRequired[StateFileStatus]
    verify: NotRequired[VerifyStatus]
    heat: NotRequired[HeatStatus]
    lio: NotRequired[LioStatus]
    lio_size: NotRequired[int]
    protected: NotRequired[bool]
    restored: NotRequired[bool]
    events: NotRequired[list[Event]]
    shipped: NotRequired[list[ShippedSnapshot]]
    restore_from: NotRequired[RestoreFromStatus | None]
    bulk_link: NotRequired[BulkLinkStatus | None]


class MapSummary(TypedDict):
    """A volume's address space in equal cells, in order.

    Each cell is the numbers of its regions of *kinds*, which are disjoint: *current* and *lost* are
    only the rest here, without the kinds that are current or lost as well. Cells are equal but for
    one region: cell i of n begins at region i * total // n. *accesses* are the decayed counts of
    host accesses, by cell; a count's grain may be larger than a cell.
    """

    volume: str
    size: int
    region_size: int
    kinds: list[str]
    cells: list[list[int]]
    accesses: NotRequired[list[int]]


class Registry(Protocol):
    """All volumes of this process."""

    on_change: Callable[[str, str], None]
    """Called with (volume, state) whenever a volume's state, its conditions or their advice change;
    the service sets it. Calling it once too often does no harm: the service sends only news."""

    async def create_volume(
        self,
        name: str,
        *,
        primary: str,
        backup: str,
        credentials: str | None,
        mirror: str = "sync",
        link: dict[str, Any] | None = None,
    ) -> int:
        """Define a volume whose bytes are all on *backup*; return its size in bytes.

        *mirror* is one of ``contract.MIRROR_MODES``. *link*: the live link's settings; see
        ``contract.LIVE_LINK_SETTINGS``.
        """
        ...

    async def delete_volume(self, name: str) -> None:
        """Forget a volume that nothing has open: its definition and its overwrite map."""
        ...

    def list_volumes(self) -> list[str]:
        """Return the names of all defined volumes, sorted."""
        ...

    def status(self, name: str) -> dict[str, Any]:
        """Return the :class:`VolumeStatus` of a volume; quick, without I/O."""
        ...

    async def map(self, name: str, cells: int) -> dict[str, Any]:
        """Return the :class:`MapSummary` of a volume, of at most *cells* cells; without I/O."""
        ...

    async def attach_snapshot(
        self,
        name: str,
        snapshot: str,
        *,
        credentials: str | None,
        extents: Sequence[tuple[int, int]] | None = None,
        link: dict[str, Any] | None = None,
    ) -> None:
        """Attach a static copy (an iscsi:// URL or a path) and record its identity.

        *extents* are all that it covers, as (offset, length) in bytes; without them, everything.
        *link*: the bulk link's settings; see ``contract.LINK_SETTINGS``.
        """
        ...

    async def link_down(self, name: str) -> None:
        """Take the bulk link down with the command that belongs to it."""
        ...

    async def detach_snapshot(self, name: str) -> None:
        """Stop using the snapshot and forget it."""
        ...

    async def merge_start(self, name: str) -> None:
        """Start the merge and return at once."""
        ...

    async def merge_pause(self, name: str) -> None:
        """Pause the merge, keeping its position."""
        ...

    async def merge_resume(self, name: str) -> None:
        """Go on where the merge was paused."""
        ...

    async def merge_cancel(self, name: str) -> None:
        """Stop the merge; what was merged stays current."""
        ...

    async def replace_primary(self, name: str, primary: str) -> None:
        """Put another disk, or the failed one again, under the running volume; it is restored."""
        ...

    async def declare_lost(self, name: str, *, offset: int, length: int | None, force: bool) -> int:
        """Count current bytes as lost; return the number of regions. No *length*: to the end.

        Without *force* it refuses (WrongStateError) if stale regions would become outdated.
        """
        ...

    async def accept_outdated(self, name: str, *, offset: int, length: int | None) -> int:
        """Let the backup's older bytes count for what is outdated; return the number of regions."""
        ...

    async def prepare_snapshot(self, name: str) -> None:
        """Note that what the backup holds from now on may come back from a snapshot of it.

        To be called before each new snapshot of the backup is taken.
        """
        ...

    async def rebuild_state(self, name: str) -> str:
        """Make the state file anew of a volume that cannot be opened; everything is lost then.

        Returns a few sentences: what was salvaged, and what it costs.
        """
        ...

    async def resize(self, name: str) -> int:
        """Let a volume grow to its backup's size; return its size in bytes.

        Durable on return, and before LIO's backstore is told.
        """
        ...

    async def protect(self, name: str, *, mirror: str) -> None:
        """Change what a write waits for, and note that the volume is to stay mirrored."""
        ...

    async def retire(self, name: str, *, forget: bool) -> None:
        """Put the definition and the state of a volume that is not open, and wholly restored, aside
        where no backstore can open it, or *forget* them.

        From then on its primary may be written by somebody else. A second time does nothing.
        """
        ...

    async def take_back(self, name: str) -> None:
        """Undo ``retire``: the volume can be opened again, and all of it is stale.

        A second time does nothing.
        """
        ...

    async def verify(self, name: str, verb: str, *, repair: str) -> None:
        """Compare primary and backup; see ``contract.VERIFY_VERBS``."""
        ...

    async def resync_pause(self, name: str) -> None:
        """Send no stale region to the backup until further notice; they stay stale."""
        ...

    async def resync_resume(self, name: str) -> None:
        """Go on with a paused resync."""
        ...
