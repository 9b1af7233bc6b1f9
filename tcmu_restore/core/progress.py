"""Counters of one volume: plain numbers that only grow, kept with the state."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass(slots=True)
class Counters:
    """Reads and writes are host commands or parts of them; the rest says its unit."""

    reads_from_primary: int = 0
    reads_from_backup: int = 0
    reads_from_snapshot: int = 0
    bytes_read_from_primary: int = 0
    bytes_read_from_backup: int = 0
    bytes_read_from_snapshot: int = 0
    bytes_merged: int = 0
    bytes_written: int = 0
    regions_populated: int = 0
    regions_merged: int = 0
    regions_zeroed: int = 0
    regions_host_written: int = 0
    regions_skipped_current: int = 0
    regions_resynced: int = 0
    regions_repaired: int = 0
    regions_verified: int = 0
    regions_differing: int = 0
    populates_dropped: int = 0
    flushes: int = 0
    map_commits: int = 0
    intent_commits: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return every counter by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, int]) -> Counters:
        """Return counters with the known names of *stored*; others start at 0."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})
