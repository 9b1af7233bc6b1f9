"""The demo's picture: latency, who served the reads, the merge and the links over time."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from vagrant.demo.samples import Latency, Sample, link_rates, local_share

_SHARE_SECONDS, _RATE_SECONDS = 4.0, 2.0
_READ, _LOCAL, _CURRENT, _THIN, _BULK = "#1f6fb2", "#2a9d55", "#8e5bb5", "#d9822b", "#3b7dd8"
_MEDIAN, _GONE, _ALONE = "#0b3c66", "#c0392b", "#34495e"
_EVENT = "#555555"
_MEDIAN_COUNT = 15
_LABEL_GAP = 0.02  # of the width: labels nearer than this get a step of their own
_STEPS = 4


def draw(
    path: Path,
    *,
    latencies: list[Latency],
    samples: list[Sample],
    events: dict[str, float],
    origin: float,
    title: str,
) -> None:
    """Draw the timeline; *events* are seconds after *origin*, all else is the host's time."""
    figure, axes = plt.subplots(
        3, 1, figsize=(13, 9), sharex=True, height_ratios=(3, 2.2, 1.3), layout="constrained"
    )
    _draw_latencies(axes[0], latencies, origin)
    _draw_shares(axes[1], samples, origin)
    _draw_links(axes[2], samples, origin)
    _mark_events(list(axes), events)
    _shade(list(axes), events)
    axes[2].set_xlabel("seconds after `create` was entered")
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=14, fontweight="bold")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_latencies(axis: Axes, latencies: list[Latency], origin: float) -> None:
    good = [(item.time - origin, item.milliseconds) for item in latencies if item.milliseconds]
    axis.scatter(
        [x for x, _ in good], [y for _, y in good], s=9, alpha=0.55, color=_READ, linewidths=0
    )
    failed = [item.time - origin for item in latencies if item.milliseconds is None]
    if failed:
        top = max((y for _, y in good), default=1.0)
        axis.scatter(failed, [top] * len(failed), marker="x", color="red", label="failed reads")
        axis.legend(loc="upper right")
    median = running_median(good, _MEDIAN_COUNT)
    axis.plot([x for x, _ in median], [y for _, y in median], color=_MEDIAN, linewidth=1.8)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_ylabel("4 KiB random read\nof the LUN (ms)")


def _draw_shares(axis: Axes, samples: list[Sample], origin: float) -> None:
    times = [sample.time - origin for sample in samples]
    current = [100 * sample.fraction_current for sample in samples]
    axis.fill_between(times, current, alpha=0.15, color=_CURRENT, linewidth=0)
    axis.plot(times, current, color=_CURRENT, linewidth=2, label="the new disk is current")
    share = local_share(samples, _SHARE_SECONDS)
    axis.plot(
        [time - origin for time, _ in share],
        [percent for _, percent in share],
        color=_LOCAL,
        linewidth=1.6,
        label="reads served locally",
    )
    axis.set_ylim(-3, 106)
    axis.set_ylabel("%")
    axis.legend(loc="center right", framealpha=0.9)


def _draw_links(axis: Axes, samples: list[Sample], origin: float) -> None:
    rates = link_rates(samples, _RATE_SECONDS)
    times = [time - origin for time, _, _ in rates]
    for index, name, color in ((1, "thin link", _THIN), (2, "bulk link", _BULK)):
        axis.plot(times, [rate[index] for rate in rates], color=color, linewidth=1.6, label=name)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("MiB/s between\nprimary and backup")
    axis.legend(loc="upper right", framealpha=0.9)


def running_median(points: list[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """Return the median of each *count* points that follow each other, in the middle of them."""
    groups = [points[start : start + count] for start in range(len(points) - count + 1)]
    return [(group[count // 2][0], sorted(y for _, y in group)[count // 2]) for group in groups]


def _shade(axes: list[Axes], events: dict[str, float]) -> None:
    """Shade the time without a LUN and the time without a backup."""
    spans = (
        ("no LUN", events.get("disk replaced"), events.get("LUN online"), _GONE),
        ("the primary alone", events.get("link cut"), axes[0].get_xlim()[1], _ALONE),
    )
    for name, begin, end, color in spans:
        if begin is None or end is None:
            continue
        for axis in axes:
            axis.axvspan(begin, end, color=color, alpha=0.09, linewidth=0)
        middle = (begin + end) / 2
        place = axes[0].get_xaxis_transform()
        axes[0].text(middle, 0.03, name, transform=place, ha="center", fontsize=9, color=color)
    axes[0].margins(x=0.01)


def _mark_events(axes: list[Axes], events: dict[str, float]) -> None:
    """Draw a line through all plots for each event, its name above the first one."""
    first, last = axes[0].get_xlim()
    last_x, step = float("-inf"), 0
    for name, x in sorted(events.items(), key=lambda item: item[1]):
        for axis in axes:
            axis.axvline(x, color=_EVENT, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.8)
        crowded = x - last_x < _LABEL_GAP * 6 * (last - first)
        step = (step + 1) % _STEPS if crowded else 0
        axes[0].annotate(
            f"{name}  {x:.1f} s",
            (x, 1.0),
            xytext=(2, 4 + 12 * step),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=8.5,
            color="#222222",
            annotation_clip=False,
        )
        last_x = x
