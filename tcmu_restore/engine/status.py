"""The status document of a volume: stable keys, plain values, made for JSON."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from ..core.effects import Leg
from ..core.region_sets import runs_of
from ..core.state import VolumeState
from ..sources.base import BlockSource
from ..sources.statistics import SourceStatistics
from .snapshot_extents import describe_extents

if TYPE_CHECKING:
    from .volume_engine import VolumeEngine

ADVICE = {
    "fenced": "An internal check failed and nothing is served. Keep the state file, restart "
    "tcmu-runner, and report what the log says.",
    "failed": "The primary is failed and the backup cannot be reached, so nothing can be served. "
    "Bring the link or the backup back; nothing acknowledged is given up meanwhile.",
    "outdated": "Some regions were lost before their newest bytes reached the backup; reads of "
    "them fail. Give the failed disk back with replace-primary if it still can be read, or give "
    "these bytes up with accept-outdated, or write them anew.",
    "diskless": "The primary is failed; everything is served and written remotely. Replace the "
    "disk with replace-primary.",
    "degraded": "The backup cannot be reached. Bring its link back; writes are kept locally "
    "and sent when it returns, and lost regions cannot be read until then.",
    "state_full": "The state file cannot be written, so writes to new places and flushes wait. "
    "Make room on its file system.",
    "resyncing": "Writes that the backup does not have yet are being sent to it. Nothing to do.",
    "restoring": "Regions are still lost. Attach a snapshot of the backup and start the merge, "
    "or let a running merge finish.",
    "in_doubt": "Some lost regions may be newer than any snapshot taken before, so they come from "
    "the live backup. To let a snapshot fill them: prepare-snapshot, take a new one, attach it.",
    "in_sync": "Everything is local and mirrored. Nothing to do.",
}
"""What to do next, by condition; the most important condition first."""

WHAT_NOW = (
    "Everything is local and mirrored. To keep it so: tcmu-restore protect {name}; or, to do "
    "without the backup from now on: tcmu-restore handover {name}"
)
"""Instead of the advice of in_sync, as long as the admin has not chosen to protect."""

QUIET_CONDITIONS = frozenset({"resyncing", "restoring", "in_doubt", "in_sync"})
"""What needs nobody's attention at once."""

OUTDATED_EXTENTS_MAX = 100
"""How many extents a status lists."""


def conditions_of(engine: VolumeEngine) -> list[str]:
    """Return everything that holds of the volume, the most important first; never empty.

    While the first login is under way an unreachable backup is no condition yet.
    """
    state, sets = engine.volume.state, engine.volume.state.overwrite_map.sets
    reachable = engine.backup.is_reachable or not engine.is_settled
    holds = {
        "fenced": engine.driver.is_fenced,
        "failed": state.is_diskless and not reachable,
        "outdated": bool(sets.outdated),
        "diskless": state.is_diskless,
        "degraded": not reachable,
        "state_full": engine.db.last_error is not None,
        "resyncing": bool(sets.stale),
        "restoring": state.overwrite_map.lost_count > 0,
        "in_doubt": bool(sets.in_doubt),
    }
    found = [word for word in ADVICE if holds.get(word)]
    return found or ["in_sync"]  # MIR-3


def advice_of(engine: VolumeEngine, condition: str) -> str:
    """Return what to do about *condition*, a sentence."""
    if condition == "in_sync" and not engine.definition.protected:
        return WHAT_NOW.format(name=engine.name)
    return ADVICE[condition]


def outdated_extents(engine: VolumeEngine) -> list[tuple[int, int]]:
    """Return (offset, length) in bytes of the first outdated extents, ascending."""
    state = engine.volume.state
    runs = islice(runs_of(state.overwrite_map.sets.outdated), OUTDATED_EXTENTS_MAX)
    extents = [state.geometry.extent_of(run) for run in runs]
    return [(extent.offset, extent.length) for extent in extents]


def _shipped(engine: VolumeEngine) -> list[dict[str, str]]:
    """Return the exported snapshots that are here, while one is of use and none is attached."""
    if engine.facts.get("snapshot") is not None or not engine.volume.state.overwrite_map.lost_count:
        return []
    return [
        {"path": offer.image.path, "taken": offer.taken, "problem": offer.problem}
        for offer in engine.offers
    ]


def is_restored(state: VolumeState) -> bool:
    """Return whether the primary holds everything, so that it can do without the backup."""
    return not state.is_diskless and state.overwrite_map.lost_count == 0


def traffic_of(source: BlockSource) -> dict[str, Any]:
    """Return what *source* has moved since it was opened, and its latency; null: not measured."""
    statistics: SourceStatistics | None = getattr(source, "statistics", None)
    if statistics is None:
        return {"latency_ms": None}
    return {
        "latency_ms": statistics.latency_seconds * 1000 or None,
        "read_bytes": statistics.read_bytes,
        "written_bytes": statistics.written_bytes,
        "retried_commands": statistics.retried_commands,
        "failed_commands": statistics.failed_commands,
        "session_losses": statistics.session_losses,
    }


def heat_of(engine: VolumeEngine) -> dict[str, int]:
    """Return what hosts access most, and how much of it is local. Bytes, but for accesses."""
    state = engine.volume.state
    chunks = [state.heat.regions_of(chunk) for chunk in state.heat.hot_chunks()]
    current = sum(map(state.overwrite_map.count_current, chunks))
    return {
        "accesses": state.heat.accesses,
        "chunk_size": state.heat.chunk_size,
        "hot_bytes": sum(map(len, chunks)) * state.geometry.region_size,
        "hot_bytes_current": current * state.geometry.region_size,
    }


def describe(engine: VolumeEngine) -> dict[str, Any]:
    """Return the status document. Sizes are bytes, times milliseconds or seconds by name."""
    state, sets = engine.volume.state, engine.volume.state.overwrite_map.sets
    conditions = conditions_of(engine)
    snapshot = engine.snapshot
    return {
        "volume": engine.name,
        "state": conditions[0],
        "advice": advice_of(engine, conditions[0]),
        "conditions": [{"name": word, "advice": advice_of(engine, word)} for word in conditions],
        "mirror": state.policy.value,
        "protected": engine.definition.protected,
        "restored": is_restored(state),
        "size": state.geometry.size,
        "lio_size": engine.lio_size,
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
            "returned": engine.guard.returned_path is not None,
            "returned_path": engine.guard.returned_path,
        },
        "backup": {
            "url": engine.definition.backup.url,
            "identity": engine.facts["backup"]["identity"],
            "reachable": engine.backup.is_reachable,
            "reason": str(engine.backup.last_error or ""),
        }
        | traffic_of(engine.backup)
        | engine.performer.timing.status(Leg.BACKUP),
        "snapshot": None
        if snapshot is None
        else {
            "source": engine.facts["snapshot"]["source"],
            "reachable": snapshot.is_reachable,
            "reason": str(getattr(snapshot, "last_error", None) or ""),
        }
        | describe_extents(engine.facts["snapshot"], state.selection, state.geometry)
        | traffic_of(snapshot)
        | engine.performer.timing.status(Leg.SNAPSHOT),
        "shipped": _shipped(engine),
        "bulk_link": engine.link.status(),
        "merge": engine.merge.status(),
        "resync": engine.resync.status(),
        "verify": engine.verify.status(),
        "heat": heat_of(engine),
        "outdated_extents": outdated_extents(engine),
        "events": engine.events.as_list(),
        "state_file": {"path": str(engine.db.path), "error": str(engine.db.last_error or "")},
        "armed_zones": len(state.intent.armed),
        "counters": state.counters.as_dict()
        | {
            "state_transactions": engine.db.transactions,
            "state_bytes_written": engine.db.bytes_written,
        },
    }
