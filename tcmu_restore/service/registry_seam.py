"""What the service needs of the engine, and what a status looks like.

The engine implements :class:`Registry`; the service only calls it, on the loop's thread. Every
method may raise any class of ``tcmu_restore.errors``. ``Status`` answers with the JSON text of a
:class:`VolumeStatus`: its keys are the documented interface of scripts, so keys are added, never
renamed or dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NotRequired, Protocol, TypedDict

VolumeState = Literal[
    "restoring",  # regions are lost; everything is served
    "in_sync",  # the primary and the backup hold everything
    "degraded",  # the backup cannot be reached, or something cannot be served
    "resyncing",  # stale regions are being sent to the backup
    "diskless",  # the primary is gone; everything is served by the backup
    "failed",  # nothing can be served
    "fenced",  # an internal check failed; nothing is served
    "closed",  # defined, but no LIO backstore has opened it
]

MergeState = Literal["idle", "running", "paused", "done", "failed"]


class RegionCounts(TypedDict):
    """Numbers of regions; *stale* and *host_written* are current, the last two are lost."""

    total: int
    current: int
    lost: int
    stale: int
    host_written: int
    in_doubt: int
    outdated: NotRequired[int]


class PrimaryStatus(TypedDict):
    """The local disk: its path, one word about it, and why it failed if it did."""

    path: str
    state: str
    reason: NotRequired[str | None]


class BackupStatus(TypedDict):
    """The live copy. *reason* says why it cannot be reached, else it is empty or null."""

    url: str
    reachable: bool
    reason: str | None
    latency_ms: float | None


class SnapshotStatus(TypedDict):
    """The attached static copy; *source* is a URL or a path."""

    source: str
    reachable: bool
    reason: str | None


class MergeStatus(TypedDict):
    """The background copy. *seconds_left* is null as long as there is no honest estimate."""

    state: MergeState
    reason: str | None
    bytes_done: int
    bytes_total: int
    rate_bytes_per_second: float
    seconds_left: float | None


class VolumeStatus(TypedDict):
    """One volume. Sizes are bytes; *advice* is one sentence that says what to do next.

    A volume in the state ``closed`` has only *volume*, *state* and *advice*, and the sizes where
    they are known. *counters* are ``reads_from_backup``, ``bytes_read_from_backup``,
    ``regions_merged`` and so on; more may be added.
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
    counters: dict[str, int]


class Registry(Protocol):
    """All volumes of this process."""

    on_change: Callable[[str, str], None]
    """Called with (volume, state) whenever a volume's state changes; the service sets it."""

    async def create_volume(
        self,
        name: str,
        *,
        primary: str,
        backup: str,
        credentials: str | None,
        header_digest: bool,
    ) -> int:
        """Define a volume whose bytes are all on *backup*; return its size in bytes."""
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

    async def attach_snapshot(self, name: str, snapshot: str, *, credentials: str | None) -> None:
        """Attach a static copy (an iscsi:// URL or a path) and record its identity."""
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
