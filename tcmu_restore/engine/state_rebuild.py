"""Makes a new state in the place of one that is damaged or missing: everything is lost.

What the old state still says of acknowledged writes that the backup may lack is carried over, so
that none of them is forgotten silently. It is an unclean stop followed by the loss of the whole
primary (INT-2, LOSS-3): what was stale, or current in an armed zone, becomes outdated; what was
host-written, in doubt, or lost in an armed zone, comes to be in doubt, so that no snapshot that was
taken earlier may fill it. Armed zones stay armed. If any part of the old state is unreadable, all
of the volume is in doubt: a snapshot may fill it once it was prepared anew.

The backup should be told to flush before: what it lost after a rebuild would not be noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from sqlite3 import Error as SqliteError
from typing import Any

from pyroaring import BitMap64

from ..core.region_sets import RegionSets, runs_of
from ..errors import StateWriteError
from .state_files import beside, files_of, find_moved, place_instead, read_files, write_aside
from .state_reading import geometry_of
from .state_salvage import NOTHING, Salvage, salvage
from .state_schema import StoredState, encode_state


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild found and did."""

    regions_lost: int
    """All of the volume; they are fetched from the backup again."""

    regions_outdated: int
    """Of these; the newest acknowledged bytes may have been only on the primary (LOSS-3)."""

    zones_in_doubt: int
    """Zones in which writes may have been in flight."""

    unreadable_parts: tuple[str, ...]
    """What the old state no longer tells, in words; empty if it told everything."""

    region_size: int
    """Bytes a region."""

    moved_to: str | None
    """Where the old database is now, its log beside it; None if there was none."""

    def cost(self) -> str:
        """Return in one to three sentences what the rebuild costs."""
        sentences = []
        if self.regions_outdated:
            length = self.regions_outdated * self.region_size
            sentences.append(
                f"Up to {length} bytes of acknowledged writes may have been only on the primary:"
                " they read as errors until the backup's older bytes are accepted or a host"
                " overwrites them."
            )
        if self.unreadable_parts:
            sentences.append(
                "Whether there were more such writes is unknown, because parts of the old state"
                f" are unreadable ({len(self.unreadable_parts)}): if there were any, they are given"
                " up, and the backup's older bytes are served."
            )
        if not sentences:
            sentences.append("No acknowledged write is given up: the backup has them all.")
        return " ".join(sentences)


def rebuild(path: Path, facts: dict[str, Any], *, now: datetime | None = None) -> RebuildReport:
    """Replace the state *path*, which nobody has open, by one that holds *facts* and no data.

    The old files are kept beside it as ``NAME.db.damaged-<time>``. A crash leaves the old state, or
    one that is refused and that this function completes when it is called again, or the new one.

    Args:
        path: the database; it may be sound, damaged or missing.
        facts: the same as for a new volume; ``size``, ``block_size``, ``region_size`` and
            ``zone_size`` in bytes are used here.
        now: goes into the name; the time by default.

    Raises:
        StateNewerError: a newer version wrote it; nothing was changed.
        StateWriteError: no room, for example; the old state is there as before. Trying again helps
            when the reason is gone.

    Cost: it reads all of the old state; milliseconds, or seconds for a large damaged one. Blocks.
    """
    try:
        moved = find_moved(path)
        saved = _salvage(path if moved is None else moved)
        aside = _free_name(path, now or datetime.now(UTC)) if moved is None else moved
        stored = _rebuilt(saved, facts)
        place_instead(path, write_aside(path, encode_state(stored)), aside)
    except (OSError, SqliteError) as error:
        raise StateWriteError(str(path), str(error)) from error
    return RebuildReport(
        regions_lost=geometry_of(facts).region_count,
        regions_outdated=len(stored.sets.outdated),
        zones_in_doubt=len(stored.armed_zones),
        unreadable_parts=saved.unreadable,
        region_size=facts["region_size"],
        moved_to=str(aside) if _is_taken(aside) else None,
    )


def _salvage(path: Path) -> Salvage:
    try:
        files = read_files(path)
    except OSError as error:
        return Salvage(NOTHING, (f"the whole file ({error.strerror})",))
    return salvage(files)


def _free_name(path: Path, now: datetime) -> Path:
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (beside(path, f".damaged-{stamp}{suffix}") for suffix in _suffixes())
    return next(name for name in names if not _is_taken(name))


def _suffixes() -> Iterator[str]:
    yield ""
    for number in count(2):
        yield f"-{number}"


def _is_taken(path: Path) -> bool:
    return any(file.exists() for file in files_of(path))


# --- what the new state says ----------------------------------------------------------------


def _rebuilt(saved: Salvage, facts: dict[str, Any]) -> StoredState:
    new, old, known = geometry_of(facts), saved.stored.facts, saved.stored.sets
    region_size = _size(old, "region_size", new.region_size)
    zone_size = _size(old, "zone_size", new.zone_size)
    zones = BitMap64(saved.stored.armed_zones)

    def regions_of(units: BitMap64, unit_size: int) -> BitMap64:
        return _rescaled(units, unit_size, new.region_size, new.region_count)

    whole = BitMap64(range(new.region_count))
    armed = regions_of(zones, zone_size)
    current = regions_of(known.current, region_size)
    sets = RegionSets.empty()
    sets.outdated.update(regions_of(known.outdated | known.stale, region_size))
    sets.outdated.update(armed & current)
    sets.in_doubt.update(regions_of(known.in_doubt | known.host_written, region_size))
    sets.in_doubt.update(whole if saved.unreadable else armed)
    zones = _rescaled(zones, zone_size, new.zone_size, new.zone_count)
    # the merge is to come, and the bulk link may be up
    kept = {name: old[name] for name in ("heat", "bulk_link") if name in old}
    return StoredState(facts | kept, sets, frozenset(zones))


def _size(facts: dict[str, Any], name: str, default: int) -> int:
    """Return a size of the old state, in bytes; that of the new one if it is not known."""
    found = facts.get(name)
    return found if isinstance(found, int) and found > 0 else default


def _rescaled(units: BitMap64, unit_size: int, size: int, count_max: int) -> BitMap64:
    """Return the indices of the pieces of *size* bytes that *units* touch, below *count_max*."""
    found = BitMap64()
    if unit_size == size:
        found.update(units)
    else:
        for run in runs_of(units):
            found.add_range(run.start * unit_size // size, -(-run.stop * unit_size // size))
    found.remove_range(count_max, max(count_max, found.max() + 1 if found else 0))
    return found
