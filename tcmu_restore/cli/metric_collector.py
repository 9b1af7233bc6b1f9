"""Reads all volumes' statuses and hands them to prometheus_client as metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from ..errors import RestoreError
from ..service.registry_seam import VolumeStatus
from .metric_table import METRICS, PREFIX, Metric


class StatusCollector(Collector):
    """Reads anew for each scrape, on whatever thread that comes.

    A service that does not answer is a metric, not a failed scrape: the alert is about the
    service then, and not about the exporter.
    """

    def __init__(self, read_statuses: Callable[[], list[VolumeStatus]]) -> None:
        self._read_statuses = read_statuses
        self.last_error: RestoreError | None = None
        """Why the last scrape found nothing; None if it did."""

    def describe(self) -> list[Family]:
        """Return nothing: to be registered must not need the service."""
        return []

    def collect(self) -> Iterator[Family]:
        """Yield every metric; only ``up`` if the service does not answer."""
        up = GaugeMetricFamily(f"{PREFIX}up", "1 when the service answered.")
        try:
            statuses = self._read_statuses()
        except RestoreError as error:
            self.last_error = error
            up.add_metric((), 0)
            yield up
            return
        self.last_error = None
        up.add_metric((), 1)
        yield up
        for metric in METRICS:
            yield _family(metric, statuses)


def _family(metric: Metric, statuses: list[VolumeStatus]) -> Family:
    family_class = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = family_class(PREFIX + metric.name, metric.help, labels=("volume", *metric.labels))
    for status in statuses:
        for labels, value in metric.samples(status):
            family.add_metric((status["volume"], *labels), value)
    return family
