"""The demo's report: what was measured, and whether the promises hold. Pure but for `write`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLEAN = "clean"
COUNTERS = (
    "reads_from_backup",
    "reads_from_primary",
    "regions_populated",
    "regions_merged",
    "regions_skipped_current",
)


@dataclass(kw_only=True)
class Report:
    """All that the demo found out. The digests were computed inside the machines."""

    lun_online_seconds: float
    create_seconds: float | None
    status: dict[str, Any]
    """The volume's status document, after the backup link was cut and all was read."""
    state_before_cut: str
    bytes_on_thin_link: int
    bytes_on_bulk_link: int
    fsck: str
    sha256_primary: str
    sha256_backup: str
    sha256_initiator: str
    remote_reads_after_cut: int
    files_verified_after_cut: int
    failed_reads: int
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def are_equal(self) -> bool:
        """Whether the three digests are one."""
        digests = {self.sha256_primary, self.sha256_backup, self.sha256_initiator}
        return len(digests) == 1 and all(len(digest) == 64 for digest in digests)

    @property
    def unaccounted(self) -> int:
        """How many regions came to be current in no way that the counters know."""
        counters, regions = self.status["counters"], self.status["regions"]
        ways = ("regions_populated", "regions_merged", "regions_zeroed")
        known = regions["host_written"] + sum(counters[way] for way in ways)
        return int(max(0, regions["total"] - regions["lost"] - known))

    def problems(self) -> list[str]:
        """Return what does not hold, in words; nothing if all is well."""
        regions, merge = self.status["regions"], self.status["merge"]
        promises = (
            (merge["state"] == "done", f"the merge is {merge['state']}"),
            (regions["lost"] == 0, f"{regions['lost']} regions are still lost"),
            (self.state_before_cut == "in_sync", f"the volume was {self.state_before_cut}"),
            (self.fsck == CLEAN, "the file system is not clean"),
            (self.are_equal, "the three digests differ"),
            (self.remote_reads_after_cut == 0, "reads went to the backup after the cut"),
            (self.files_verified_after_cut > 0, "no file was verified after the cut"),
            (self.failed_reads == 0, f"{self.failed_reads} of the initiator's reads failed"),
            (self.status["counters"]["reads_from_backup"] > 0, "nothing came from the backup"),
            (self.status["counters"]["regions_merged"] > 0, "nothing was merged"),
            (self.unaccounted == 0, f"{self.unaccounted} regions are in no counter"),
            (self.bytes_on_bulk_link > 0, "nothing came over the bulk link"),
        )
        return [sentence for holds, sentence in promises if not holds]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as it is written."""
        counters, regions = self.status["counters"], self.status["regions"]
        problems = self.problems()
        return {
            "verdict": "ok" if not problems else "failed: " + "; ".join(problems),
            "seconds": round(self.seconds, 1),
            "lun_online_seconds": round(self.lun_online_seconds, 3),
            "create_seconds": self.create_seconds and round(self.create_seconds, 3),
            **{name: counters[name] for name in COUNTERS},
            "regions_total": regions["total"],
            "regions_host_written": regions["host_written"],
            "bytes_on_thin_link": self.bytes_on_thin_link,
            "bytes_on_bulk_link": self.bytes_on_bulk_link,
            "fsck": self.fsck,
            "sha256_primary": self.sha256_primary,
            "sha256_backup": self.sha256_backup,
            "sha256_initiator": self.sha256_initiator,
            "equal": self.are_equal,
            "details": self.details,
        }

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(json.dumps(self.as_dict(), indent=2) + "\n")


def summarize_fsck(status: int, output: str) -> str:
    """Return CLEAN, or what `fsck -fn` said; its status 0 alone means no error."""
    return CLEAN if status == 0 else output.strip() or f"status {status}"
