"""Every metric: its name and its meaning.

The names are for dashboards and alerts and are kept as the status document's keys are. Base units:
bytes, seconds. Conditions and job states are one series each, 1 for what holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from ..service.registry_seam import MergeState, ResyncState, VerifyState, VolumeStatus
from . import metric_reading as read
from .condition import is_open
from .metric_reading import Reader, Sample

PREFIX: Final = "tcmu_restore_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of every volume; the label *volume* comes before *labels*.

    *name* is without the prefix, and without the ``_total`` that every counter ends with.
    """

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    read: Reader
    labels: tuple[str, ...] = ()
    has_closed: bool = False

    @property
    def full_name(self) -> str:
        """The name as Prometheus stores it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"

    def samples(self, status: VolumeStatus) -> list[Sample]:
        """Return the samples of one volume; most have none of a volume that is not served."""
        return list(self.read(status)) if self.has_closed or is_open(status) else []


_PLACES: Final = ("primary", "backup", "snapshot")
_WAYS: Final = ("populated", "merged", "zeroed", "host_written", "repaired")
_SOURCE: Final = ("source",)

METRICS: Final = (
    Metric(
        "condition",
        "gauge",
        "1 for each condition that holds of the volume, 0 for the others.",
        read.conditions,
        ("condition",),
        has_closed=True,
    ),
    Metric("size_bytes", "gauge", "Size of the volume.", read.size, has_closed=True),
    Metric(
        "state_file_ok",
        "gauge",
        "1 while the state file can be read and written.",
        read.state_file_ok,
        has_closed=True,
    ),
    Metric(
        "region_size_bytes",
        "gauge",
        "Size of one region.",
        lambda status: [((), status["region_size"])],
    ),
    Metric(
        "regions",
        "gauge",
        "Regions by kind; host-written and stale ones are current, the last two are lost.",
        read.regions,
        ("kind",),
    ),
    Metric("armed_zones", "gauge", "Zones that writes may be in flight to.", read.armed_zones),
    Metric("source_reachable", "gauge", "1 while the source answers.", read.reachable, _SOURCE),
    Metric(
        "source_latency_seconds",
        "gauge",
        "Mean time of the last dozens of commands.",
        read.traffic("latency_ms", factor=1e-3),
        _SOURCE,
    ),
    Metric(
        "source_read_latency_seconds",
        "gauge",
        "Mean time of the last small reads; decides who is asked for lost regions.",
        read.traffic("read_latency_ms", factor=1e-3),
        _SOURCE,
    ),
    Metric(
        "source_read_rate_bytes_per_second",
        "gauge",
        "What is read of the source, over the last seconds.",
        read.traffic("read_rate_bytes_per_second"),
        _SOURCE,
    ),
    Metric(
        "source_asked_first",
        "gauge",
        "1 for the source that lost regions are asked of where both may serve them.",
        read.traffic("asked_first"),
        _SOURCE,
    ),
    Metric(
        "bulk_link_up",
        "gauge",
        "1 while the bulk link is, or may be, up by its command.",
        read.bulk_link,
    ),
    Metric(
        "source_read_bytes", "counter", "Read since opening.", read.traffic("read_bytes"), _SOURCE
    ),
    Metric(
        "source_written_bytes",
        "counter",
        "Written since opening.",
        read.traffic("written_bytes"),
        _SOURCE,
    ),
    Metric(
        "source_retried_commands",
        "counter",
        "Commands that were sent again.",
        read.traffic("retried_commands"),
        _SOURCE,
    ),
    Metric(
        "source_failed_commands",
        "counter",
        "Commands that failed for good.",
        read.traffic("failed_commands"),
        _SOURCE,
    ),
    Metric(
        "source_session_losses",
        "counter",
        "iSCSI sessions that broke.",
        read.traffic("session_losses"),
        _SOURCE,
    ),
    Metric(
        "merge_state",
        "gauge",
        "1 for what the merge does, 0 for the others.",
        read.job_state("merge", get_args(MergeState)),
        ("state",),
    ),
    Metric("merge_done_bytes", "gauge", "Bytes that are current.", read.job("merge", "bytes_done")),
    Metric(
        "merge_rate_bytes_per_second",
        "gauge",
        "The merge's rate over the last seconds.",
        read.job("merge", "rate_bytes_per_second"),
    ),
    Metric("merged_bytes", "counter", "Bytes merged.", read.counter("bytes_merged")),
    Metric(
        "merge_skipped_regions",
        "counter",
        "Regions not transmitted since they were current.",
        read.counter("regions_skipped_current"),
    ),
    Metric(
        "resync_state",
        "gauge",
        "1 for what the resync does, 0 for the others.",
        read.job_state("resync", get_args(ResyncState)),
        ("state",),
    ),
    Metric("resync_left_bytes", "gauge", "Bytes still stale.", read.job("resync", "bytes_left")),
    Metric(
        "resync_rate_bytes_per_second",
        "gauge",
        "The resync's rate over the last seconds.",
        read.job("resync", "rate_bytes_per_second"),
    ),
    Metric("resynced_regions", "counter", "Regions resynced.", read.counter("regions_resynced")),
    Metric(
        "verify_state",
        "gauge",
        "1 for what the verification does, 0 for the others.",
        read.job_state("verify", get_args(VerifyState)),
        ("state",),
    ),
    Metric("verify_done_bytes", "gauge", "Bytes compared.", read.job("verify", "bytes_done")),
    Metric(
        "verify_differing_regions",
        "gauge",
        "Regions that differ, by the verification that runs or ran last.",
        read.job("verify", "regions_differing"),
    ),
    Metric("hot_bytes", "gauge", "Bytes that hosts access most.", read.job("heat", "hot_bytes")),
    Metric(
        "hot_current_bytes",
        "gauge",
        "Of the hot bytes, those that are current.",
        read.job("heat", "hot_bytes_current"),
    ),
    Metric(
        "verified_regions",
        "counter",
        "Regions that a verify compared.",
        read.counter("regions_verified"),
    ),
    Metric(
        "differing_regions",
        "counter",
        "Regions that a verify found to differ.",
        read.counter("regions_differing"),
    ),
    Metric(
        "reads",
        "counter",
        "Host reads, or parts of them, by where the bytes came from.",
        read.counters({place: f"reads_from_{place}" for place in _PLACES}),
        _SOURCE,
    ),
    Metric(
        "read_bytes",
        "counter",
        "Bytes that hosts read, by where they came from.",
        read.counters({place: f"bytes_read_from_{place}" for place in _PLACES}),
        _SOURCE,
    ),
    Metric("written_bytes", "counter", "Bytes that hosts wrote.", read.counter("bytes_written")),
    Metric(
        "kept_regions",
        "counter",
        "Regions that came to be current, by how.",
        read.counters({way: f"regions_{way}" for way in _WAYS}),
        ("how",),
    ),
    Metric(
        "dropped_populates",
        "counter",
        "Fetches that were answered and not kept, for want of room.",
        read.counter("populates_dropped"),
    ),
    Metric("flushes", "counter", "Flushes that hosts asked for.", read.counter("flushes")),
    Metric(
        "commits",
        "counter",
        "Commits of the overwrite map and of the intent log.",
        read.counters({"map": "map_commits", "intent": "intent_commits"}),
        ("what",),
    ),
    Metric(
        "state_written_bytes",
        "counter",
        "Bytes written to the state file.",
        read.counter("state_bytes_written"),
    ),
)
"""Beside these there is ``tcmu_restore_up``: 1 when the service answered."""
