"""A status in words: rows of label and text, for the one-screen view and for targetcli.

Pure: a status in, text out. Nothing is computed that the service has not measured; where it has no
estimate, the text says so.
"""

from __future__ import annotations

from typing import Final

from ..service.registry_seam import MergeStatus, VolumeStatus
from ..units import format_size

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_TEN_SECONDS: Final = 10

_COUNTERS: Final = (
    ("primary", "reads_from_primary", "bytes_read_from_primary"),
    ("backup", "reads_from_backup", "bytes_read_from_backup"),
    ("snapshot", "reads_from_snapshot", "bytes_read_from_snapshot"),
)


def is_open(status: VolumeStatus) -> bool:
    """Return whether the volume is being served; if not, most of its status is not there."""
    return "regions" in status


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


def format_left(merge: MergeStatus) -> str:
    """Return the time left, or what a merge waits for; without the service's estimate none."""
    if merge["reason"]:
        return merge["reason"]
    seconds = merge["seconds_left"]
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
    return ", ".join(parts)


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
    parts += [f"{count} {name}" for name, count in counts if count]
    return f"{', '.join(parts)} (of {regions['total']}, {format_size(status['region_size'])} each)"


def status_rows(status: VolumeStatus) -> list[tuple[str, str]]:
    """Return the one-screen view's rows, except for the merge, which has a bar of its own."""
    if not is_open(status):
        return [("volume", status["volume"]), ("state", status["state"])]
    return [
        ("volume", f"{status['volume']}, {format_size(status['size'])}"),
        ("state", status["state"]),
        ("regions", regions_line(status)),
        ("primary", _primary_text(status)),
        ("backup", _backup_text(status)),
        ("snapshot", _snapshot_text(status)),
        ("served", _served_text(status["counters"])),
        ("kept", _kept_text(status["counters"])),
    ]


def status_lines(status: VolumeStatus) -> list[str]:
    """Return the whole status as plain lines, the advice last."""
    rows = status_rows(status)
    if is_open(status):
        rows.append(("merge", merge_line(status["merge"])))
    return [f"{label:>8}  {text}" for label, text in rows] + ["", status["advice"]]


def _primary_text(status: VolumeStatus) -> str:
    primary = status["primary"]
    reason = primary.get("reason")
    return f"{primary['path']} ({primary['state']}{f': {reason}' if reason else ''})"


def _backup_text(status: VolumeStatus) -> str:
    backup = status["backup"]
    if not backup["reachable"]:
        return f"{backup['url']} (not reachable: {backup['reason'] or 'no reason known'})"
    latency = backup["latency_ms"]
    return f"{backup['url']} (reachable{'' if latency is None else f', {latency:.3g} ms'})"


def _snapshot_text(status: VolumeStatus) -> str:
    snapshot = status["snapshot"]
    if snapshot is None:
        return "none attached"
    if snapshot["reachable"]:
        return f"{snapshot['source']} (reachable)"
    return f"{snapshot['source']} (not reachable: {snapshot['reason'] or 'no reason known'})"


def _served_text(counters: dict[str, int]) -> str:
    parts = [
        f"{counters[reads]} reads from {where} ({format_size(counters.get(size, 0))})"
        for where, reads, size in _COUNTERS
        if counters.get(reads)
    ]
    return ", ".join(parts) or "no reads yet"


def _kept_text(counters: dict[str, int]) -> str:
    names = ("populated", "merged", "zeroed", "host_written", "skipped_current", "repaired")
    parts = [
        f"{counters[f'regions_{name}']} {name.replace('_', ' ')}"
        for name in names
        if counters.get(f"regions_{name}")
    ]
    return ", ".join(parts) + " regions" if parts else "no regions yet"
