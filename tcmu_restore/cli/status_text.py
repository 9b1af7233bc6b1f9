"""A status in words: rows of label and text, for the one-screen view and for targetcli.

Pure: a status in, text out. Nothing is computed that the service has not measured; where it has no
estimate, the text says so.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ..service.registry_seam import (
    BulkLinkStatus,
    Event,
    HeatStatus,
    MergeStatus,
    RestoreFromStatus,
    ResyncStatus,
    SnapshotStatus,
    Traffic,
    VerifyStatus,
    VolumeStatus,
)
from ..units import format_size
from .condition import condition_names, is_open, next_steps

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_TEN_SECONDS: Final = 10

_EXTENTS_SHOWN: Final = 3
"""``accept-outdated`` lists them all; here they must leave room for the rest of the screen."""

_COUNTERS: Final = (
    ("primary", "reads_from_primary", "bytes_read_from_primary"),
    ("backup", "reads_from_backup", "bytes_read_from_backup"),
    ("snapshot", "reads_from_snapshot", "bytes_read_from_snapshot"),
)


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units, the small one dropped where it is noise."""
    whole = max(0, round(seconds))
    for unit, name, part, part_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // part
            small = f" {rest} {part_name}" if rest and whole < _TEN_SECONDS * unit else ""
            return f"{whole // unit} {name}{small}"
    return f"{whole} s"


def format_rate(rate_bytes_per_second: float) -> str:
    """Return a rate for a person, or a dash while nothing moves."""
    rate = int(rate_bytes_per_second)
    return f"{format_size(rate)}/s" if rate > 0 else "-"


def format_left(job: MergeStatus | ResyncStatus | VerifyStatus) -> str:
    """Return the time left, or what the job waits for; without the service's estimate none."""
    if job["reason"]:
        return job["reason"]
    seconds = job["seconds_left"]
    return "time left unknown" if seconds is None else f"{format_duration(seconds)} left"


def fraction_current(status: VolumeStatus) -> float:
    """Return how much of the primary is current, 0 to 1."""
    regions = status["regions"]
    return regions["current"] / regions["total"] if regions["total"] else 1.0


def format_percent(fraction: float) -> str:
    """Return whole percent, rounded down: 100 % means that nothing is missing."""
    return f"{int(fraction * 100)} %"


def format_bar(fraction: float, *, width: int) -> str:
    """Return a bar of plain characters; full only when nothing is missing."""
    filled = int(min(max(fraction, 0.0), 1.0) * width)
    return f"[{'#' * filled}{'-' * (width - filled)}]"


def fraction_merged(merge: MergeStatus) -> float:
    """Return how much of the merge's work is done, 0 to 1."""
    return merge["bytes_done"] / merge["bytes_total"] if merge["bytes_total"] else 0.0


def merge_line(merge: MergeStatus, *, bar_width: int = 24) -> str:
    """Return the merge in one line: bar, percent, rate and time left as far as they apply."""
    state = merge["state"]
    if state == "idle":
        return "idle"
    fraction = fraction_merged(merge)
    parts = [f"{state} {format_bar(fraction, width=bar_width)} {format_percent(fraction)}"]
    parts.append(f"{format_size(merge['bytes_done'])} of {format_size(merge['bytes_total'])}")
    if state == "running":
        parts += [format_rate(merge["rate_bytes_per_second"]), format_left(merge)]
    elif merge["reason"]:
        parts.append(merge["reason"])
    if report := merge.get("report"):
        parts.append(report)
    return ", ".join(parts)


def resync_line(resync: ResyncStatus) -> str:
    """Return the resync in one line: what is left, and rate and time left as far as they apply."""
    state = resync["state"]
    parts = [state, f"{format_size(resync['bytes_left'])} left"]
    if state == "running":
        parts += [format_rate(resync["rate_bytes_per_second"]), format_left(resync)]
    elif resync["reason"]:
        parts.append(resync["reason"])
    return ", ".join(parts)


def fraction_verified(verify: VerifyStatus) -> float:
    """Return how much of the volume is compared, 0 to 1."""
    return verify["bytes_done"] / verify["bytes_total"] if verify["bytes_total"] else 0.0


def verify_line(verify: VerifyStatus) -> str:
    """Return the verification in one line: bar, time left, and what differs."""
    parts = [f"{verify['state']} {format_percent(fraction_verified(verify))}"]
    if verify["state"] == "running":
        parts += [format_rate(verify["rate_bytes_per_second"]), format_left(verify)]
    if verify["reason"]:
        parts.append(verify["reason"])
    differing = verify["regions_differing"]
    parts.append(f"{differing} regions differ" if differing else "nothing differs")
    return ", ".join(parts)


def link_line(link: BulkLinkStatus) -> str:
    """Return the bulk link in one line: what is known of it, and what takes it down."""
    words = "perhaps up" if link["state"] == "unknown" else link["state"]
    if link["reason"]:
        return f"{words}: {link['reason']}"
    return f"{words}; take it down with: {link['take_down']}" if link["take_down"] else words


def format_extent(offset: int, length: int) -> str:
    """Return an extent (bytes): its size for the eye, its offset exactly."""
    return f"{format_size(length)} at offset {offset}"


def regions_line(status: VolumeStatus) -> str:
    """Return the regions that matter: how many are current, and what is not as it should be."""
    regions = status["regions"]
    parts = [f"{format_percent(fraction_current(status))} current"]
    counts = (
        ("lost", regions["lost"]),
        ("stale", regions["stale"]),
        ("in doubt", regions["in_doubt"]),
        ("outdated", regions.get("outdated", 0)),
    )
    size = status["region_size"]
    parts += [f"{count} {name} ({format_size(count * size)})" for name, count in counts if count]
    return f"{', '.join(parts)}, of {regions['total']} ({format_size(size)} each)"


def region_columns(status: VolumeStatus) -> list[tuple[str, int, str]]:
    """Return every kind of region: its name, how many there are, and their bytes for a person.

    Stale and host-written regions are current as well; those in doubt and outdated are lost.
    """
    regions, size = status["regions"], status["region_size"]
    counts = (
        ("current", regions["current"]),
        ("host-written", regions["host_written"]),
        ("stale", regions["stale"]),
        ("lost", regions["lost"]),
        ("in doubt", regions["in_doubt"]),
        ("outdated", regions.get("outdated", 0)),
    )
    return [(name, count, format_size(min(count * size, status["size"]))) for name, count in counts]


def status_rows(status: VolumeStatus) -> list[tuple[str, str]]:
    """Return the one-screen view's rows, except for the merge, which has a bar of its own."""
    states = ("state", ", ".join(condition_names(status)))
    if not is_open(status):
        return [("volume", status["volume"]), states, *_exceptional_rows(status)]
    return [
        ("volume", f"{status['volume']}, {format_size(status['size'])}"),
        states,
        ("regions", regions_line(status)),
        *_exceptional_rows(status),
        ("primary", _primary_text(status)),
        ("backup", _backup_text(status)),
        ("snapshot", _snapshot_text(status)),
        *_job_rows(status),
        ("served", _served_text(status["counters"])),
        ("kept", _kept_text(status["counters"])),
    ]


def status_lines(
    status: VolumeStatus, *, replace_command: str | None = None, attach_command: str | None = None
) -> list[str]:
    """Return the whole status as plain lines, what to do next last; see ``next_steps``."""
    rows = status_rows(status)
    if is_open(status):
        rows.append(("merge", merge_line(status["merge"])))
    steps = next_steps(status, replace_command=replace_command, attach_command=attach_command)
    return [f"{label:>8}  {text}" for label, text in rows] + ["", *steps]


def restore_text(restore: RestoreFromStatus) -> str:
    """Return how far a restore-from is, and what to type."""
    commands = f"go on: {restore['go_on']}; remove: {restore['remove']}"
    if restore["error"]:
        return f"{restore['error']} ({commands})"
    what = f"snapshot {restore['snapshot']} of {restore['origin']} on {restore['host']}"
    moment = datetime.fromisoformat(restore["began"]).astimezone()
    step = f"next step {restore['step']}, begun {moment:%Y-%m-%d %H:%M}"
    return f"{what}, {step}; if it does not run, {commands}"


def _exceptional_rows(status: VolumeStatus) -> list[tuple[str, str]]:
    """Return rows that are there only when there is something to say."""
    rows = []
    restore = status.get("restore_from")
    if restore is not None:
        rows.append(("restore", restore_text(restore)))
    extents = status.get("outdated_extents", [])
    if extents:
        shown = [format_extent(*extent) for extent in extents[:_EXTENTS_SHOWN]]
        more = ["and more"] if len(extents) > len(shown) else []
        rows.append(("outdated", "; ".join(shown + more)))
    link = status.get("bulk_link")
    if link is not None:
        rows.append(("link", link_line(link)))
    state_file = status.get("state_file")
    if state_file is not None and state_file["error"]:
        rows.append(("kept in", f"{state_file['path']} ({state_file['error']})"))
    return rows


def _job_rows(status: VolumeStatus) -> list[tuple[str, str]]:
    """Return rows of what goes on by itself, and of what hosts use most."""
    rows = []
    heat = status.get("heat")
    if heat is not None and heat["hot_bytes"]:
        rows.append(("hot", heat_line(heat)))
    resync = status.get("resync")
    if resync is not None and resync["state"] != "idle":
        rows.append(("resync", resync_line(resync)))
    verify = status.get("verify")
    if verify is not None and verify["state"] != "idle":
        rows.append(("verify", verify_line(verify)))
    return rows


def _primary_text(status: VolumeStatus) -> str:
    primary = status["primary"]
    reason = primary.get("reason")
    words = f"{primary['state']}{f': {reason}' if reason else ''}"
    return f"{primary['path']} ({words}{'; it is back' if primary.get('returned') else ''})"


def _backup_text(status: VolumeStatus) -> str:
    backup = status["backup"]
    mirror = f", mirror {status['mirror']}" if "mirror" in status else ""
    if not backup["reachable"]:
        reason = backup["reason"] or "no reason known"
        return f"{backup['url']} (not reachable: {reason}{mirror})"
    return f"{backup['url']} (reachable{_traffic_text(backup)}{mirror})"


def _snapshot_text(status: VolumeStatus) -> str:
    snapshot = status["snapshot"]
    if snapshot is None:
        return "none attached"
    source = snapshot["source"] + _covered_text(status, snapshot)
    if snapshot["reachable"]:
        first = ", asked first" if snapshot.get("asked_first") else ""
        return f"{source} (reachable{_traffic_text(snapshot)}{first})"
    return f"{source} (not reachable: {snapshot['reason'] or 'no reason known'})"


def _covered_text(status: VolumeStatus, snapshot: SnapshotStatus) -> str:
    """Return what a snapshot of a selected data set covers; nothing for a whole one."""
    if snapshot.get("extents") is None:
        return ""
    size = format_size(status["size"])
    return f", covers {format_size(snapshot['bytes_covered'])} of {size}"


def _traffic_text(source: Traffic) -> str:
    """Return what was measured of a source: latency, rate, and what it moved so far."""
    latency = source.get("read_latency_ms") or source.get("latency_ms")
    parts = [] if latency is None else [f"{latency:.3g} ms"]
    rate = source.get("read_rate_bytes_per_second", 0.0)
    if rate >= 1:
        parts.append(format_rate(rate))
    if "read_bytes" in source:
        parts.append(f"{format_size(source['read_bytes'])} read")
    if source.get("written_bytes"):
        parts.append(f"{format_size(source['written_bytes'])} written")
    return "".join(f", {part}" for part in parts)


def heat_line(heat: HeatStatus) -> str:
    """Return what hosts use most, and how much of that is local."""
    share = heat["hot_bytes_current"] / heat["hot_bytes"]
    return f"{format_size(heat['hot_bytes'])} are used most, {format_percent(share)} of it current"


def event_line(event: Event) -> str:
    """Return an event in one line, its time as the clock here has it."""
    moment = datetime.fromisoformat(event["time"]).astimezone()
    times = f" ({event['count']} times)" if event["count"] > 1 else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}  {event['sentence']}{times}"


def _served_text(counters: dict[str, int]) -> str:
    parts = [
        f"{counters[reads]:,} reads from {where} ({format_size(counters.get(size, 0))})"
        for where, reads, size in _COUNTERS
        if counters.get(reads)
    ]
    return ", ".join(parts) or "no reads yet"


def _kept_text(counters: dict[str, int]) -> str:
    names = ("populated", "merged", "zeroed", "host_written", "skipped_current", "repaired")
    parts = [
        f"{counters[f'regions_{name}']:,} {name.replace('_', ' ')}"
        for name in names
        if counters.get(f"regions_{name}")
    ]
    return ", ".join(parts) + " regions" if parts else "no regions yet"
