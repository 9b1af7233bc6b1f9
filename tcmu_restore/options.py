"""Frozen settings and every limit, each with its reason and what happens there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .units import GiB, KiB, MiB

DEFINITION_DIR: Final = Path("/etc/tcmu-restore/volumes")
STATE_DIR: Final = Path("/var/lib/tcmu-restore")

SUBTYPE: Final = "restore"
"""The handler's name in config strings: ``restore/<volume>``, and ``user:restore`` in targetcli."""

VOLUME_NAME_LENGTH_MAX: Final = 64
"""The config string (subtype and name) stays below 100 bytes: it is repeated in VPD page 0x83."""

VOLUME_NAME: Final = re.compile(f"[A-Za-z0-9_-]{{1,{VOLUME_NAME_LENGTH_MAX}}}")

DBUS_NAME: Final = "org.tcmu_restore.Service1"
DBUS_PATH: Final = "/org/tcmu_restore"
DBUS_MANAGER: Final = "org.tcmu_restore.Manager1"
DBUS_GROUP: Final = "tcmu-restore"
"""Where this group exists, its members may call the service as root may."""


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """What a volume's definition may change. Sizes are bytes, times are seconds."""

    region_size: int = 4 * KiB
    """The overwrite map's grain; the usual block of the file systems above."""

    zone_size: int = 4 * MiB
    """The write-intent log's grain: one commit serves every write to these bytes."""

    hold_seconds: float = 8.0
    """How long one command waits for a source to come back before it is answered BUSY.
    Well below the 30 s after which a Linux initiator starts to abort."""

    lost_read_deadline_seconds: float = 60.0
    """How long a source may be away before reads of lost regions get an error instead of BUSY.
    Below the 180 s after which a Linux initiator gives up on BUSY by itself."""

    patience_seconds: float = 20.0
    """How long a read may wait for bytes that are on their way over a slow line before it is
    answered BUSY. The initiator asks again, and the bytes come meanwhile. Below its 30 s, too."""

    commit_interval_seconds: float = 5.0
    """How often background work is flushed and committed; a crash repeats at most this much."""

    merge_step: int = 1 * MiB
    """One background read: large enough that its Python cost (tens of microseconds) vanishes."""

    merge_depth: int = 8
    """Background reads in flight: at 1 MiB a step, 8 fill 1 Gbit/s at 60 ms."""

    populate_backlog: int = 64 * MiB
    """Fetched bytes waiting to be written to the primary. Beyond it a fetch is answered and not
    kept: the region stays lost and is fetched again when it is next read."""

    mirror_backlog: int = 64 * MiB
    """With the policy async: stale bytes beyond which a write waits for the backup as with sync."""

    armed_zones_max: int = 1024
    """Zones the write-intent log keeps armed while the volume is written to: with 4 MiB zones an
    unclean stop makes 4 GiB stale at most."""

    background_rate_min: int = 4 * MiB
    """Bytes a second that merge and resync get however busy the hosts are."""

    background_rate_max: int = 10 * GiB
    """Bytes a second that merge and resync take at most; in effect no limit."""

    fetch_ahead_max: int = 1 * MiB
    """The longest extension of one on-demand fetch when a host reads lost regions in sequence."""


_MEMORY_MAX: Final = 64 * GiB
_SECONDS_MAX: Final = 24 * 60 * 60

OPTION_LIMITS: Final = {
    "region_size": 16 * MiB,  # a partial write fetches a whole one
    "zone_size": 1 * GiB,
    "hold_seconds": _SECONDS_MAX,
    "lost_read_deadline_seconds": _SECONDS_MAX,
    "patience_seconds": _SECONDS_MAX,
    "commit_interval_seconds": _SECONDS_MAX,
    "merge_step": 64 * MiB,  # a step is in memory as a whole, and several are
    "merge_depth": 256,
    "populate_backlog": _MEMORY_MAX,
    "mirror_backlog": _MEMORY_MAX,
    "armed_zones_max": 1 << 20,
    "background_rate_min": 1 << 50,
    "background_rate_max": 1 << 50,
    "fetch_ahead_max": 64 * MiB,
}
"""The most that a definition may ask for: beyond it there is a slip, not a wish."""


@dataclass(frozen=True, slots=True)
class IscsiOptions:
    """Settings of one iSCSI peer. Times are seconds."""

    header_digest: bool = False
    """CRC32C over PDU headers (RFC 7143 section 13.1); data digests need libiscsi 1.20.1."""

    command_timeout_seconds: float = 10.0
    """After this a command counts as lost and its session is dropped: a foreground command of the
    host must end before the host's own 30 s. Time in which the connection carries what was asked
    for before, or the command's own bytes, does not count."""

    connect_timeout_seconds: float = 5.0
    """TCP connect and login together; with each attempt in vain longer, up to four times this: on a
    telephone line a login takes 2 s, and what an earlier session left in the queue up to 10 s."""

    reconnect_delay_seconds: float = 0.5
    """The first pause before another login; it doubles up to the next one."""

    reconnect_delay_max_seconds: float = 5.0
    """A link that returns is used at the latest after this long."""

    keepalive_seconds: float = 3.0
    """NOP-Out interval on an idle session; two unanswered drop the session."""

    sessions: int = 1
    """Sessions to the peer; bulk transfer gains from several TCP connections on long links."""

    queue_depth: int = 32
    """Commands in flight a session; more wait here. LIO's default per-session limit is 64."""

    portals: tuple[tuple[str, int], ...] = ()
    """(host, port) of further portals of the same portal group, tried in turn after the URL's."""

    interface: str | None = None
    """The only network interface to use."""

    source_address: str | None = None
    """The numeric address to connect from."""


SLOW_SECONDS: Final = 2.0
"""After so long without an answer a person wonders whether anything happens, and is told."""

INSTALLED_HANDLER_NAME: Final = "handler_restore.so"
"""tcmu-runner loads every ``handler_*`` file of its plugin folder."""
