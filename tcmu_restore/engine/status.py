"""The status document of a volume: stable keys, plain values, made for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .volume_engine import VolumeEngine

ADVICE = {
    "fenced": "An internal check failed and nothing is served. Keep the state file, restart "
    "tcmu-runner, and report what the log says.",
    "diskless": "The primary is failed; everything is served by the backup. Replace the disk.",
    "degraded": "The backup cannot be reached. Bring its link back; writes are kept locally "
    "and sent when it returns, and lost regions cannot be read until then.",
    "resyncing": "Writes made while the backup was away are being sent to it. Nothing to do.",
    "restoring": "Regions are still lost. Attach a snapshot of the backup and start the merge, "
    "or let a running merge finish.",
    "in_sync": "Everything is local and mirrored. Nothing to do.",
}
"""What to do next, by state. The first state of this order that holds is shown."""


def state_of(engine: VolumeEngine) -> str:
    """Return the one word that matters most to the admin now."""
    state = engine.volume.state
    if engine.driver.is_fenced:
        return "fenced"
    if state.is_diskless:
        return "diskless"
    if not engine.backup.is_reachable:
        return "degraded"
    if state.overwrite_map.sets.stale:
        return "resyncing"
    return "restoring" if state.overwrite_map.lost_count else "in_sync"  # MIR-3


def describe(engine: VolumeEngine) -> dict[str, Any]:
    """Return the status document. Sizes are bytes, times milliseconds or seconds by name."""
    state, sets = engine.volume.state, engine.volume.state.overwrite_map.sets
    word = state_of(engine)
    snapshot = engine.snapshot
    return {
        "volume": engine.name,
        "state": word,
        "advice": ADVICE[word],
        "size": state.geometry.size,
        "block_size": state.geometry.block_size,
        "region_size": state.geometry.region_size,
        "regions": {
            "total": state.geometry.region_count,
            "current": len(sets.current),
            "lost": state.overwrite_map.lost_count,
            "stale": len(sets.stale),
            "in_doubt": len(sets.in_doubt),
            "outdated": len(sets.outdated),
            "host_written": len(sets.host_written),
        },
        "primary": {
            "path": engine.definition.primary,
            "state": "failed" if state.is_diskless else "ok",
            "reason": str(state.primary_failure or ""),
        },
        "backup": {
            "url": engine.definition.backup.url,
            "reachable": engine.backup.is_reachable,
            "reason": str(engine.backup.last_error or ""),
            "latency_ms": engine.backup.statistics.latency_seconds * 1000 or None,
        },
        "snapshot": None
        if snapshot is None
        else {
            "source": engine.facts["snapshot"]["source"],
            "reachable": snapshot.is_reachable,
            "reason": str(getattr(snapshot, "last_error", None) or ""),
        },
        "merge": engine.merge.status(),
        "armed_zones": len(state.intent.armed),
        "counters": state.counters.as_dict()
        | {
            "state_transactions": engine.db.transactions,
            "state_bytes_written": engine.db.bytes_written,
        },
    }
