"""When a write is acknowledged: the three policies of a mirror."""

from __future__ import annotations

from enum import Enum


class MirrorPolicy(Enum):
    """What a host's write waits for while the primary is in order.

    A diskless volume always waits for the backup: it holds the only copy.
    """

    SYNC = "sync"
    """Both sides. While the backup is away the primary is enough, and the region becomes stale."""

    ASYNC = "async"
    """The primary; resync sends the bytes. Beyond a backlog of stale bytes, as for SYNC."""

    STRICT = "strict"
    """Both sides, always: no backup, no write."""
