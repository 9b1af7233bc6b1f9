"""`python -m tests.bench.hottest_first`: the share of reads served locally after a loss, over time.

With and without hottest first; leaves build/bench/hottest_first.json and .png. A model, not
machines: see ``hot_model``. `make bench` runs it beside the lab's figures.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tcmu_restore.units import KiB, MiB
from tests.bench.hot_model import Load, Restore, Run
from tests.support.virtual_time import VirtualLoop

FOLDER = Path("build/bench")

LOADS = {
    "popular extents of 4 MiB (files of a size)": Load(extent_size=4 * MiB),
    "popular extents of 64 KiB, scattered": Load(extent_size=64 * KiB),
}

WAYS = {
    "in order (nothing is counted)": {"counts": False, "has_history": False},
    "hottest first, counted since the loss": {"counts": True, "has_history": False},
    "hottest first, counts kept from before": {"counts": True, "has_history": True},
}

ENOUGH = 0.9


def measure(load: Load, way: dict[str, bool]) -> Run:
    """Restore once."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(Restore(load, **way).run())
    finally:
        loop.close()


def figures(run: Run) -> dict[str, Any]:
    """Return what is worth a number. Seconds are virtual ones since the merge began."""
    share = run.local_share[: len(run.current_share)]
    enough = [second for second in range(len(share)) if min(share[second : second + 3]) >= ENOUGH]
    return {
        "seconds_in_all": round(run.seconds, 1),
        "seconds_until_nine_in_ten_reads_are_local": enough[0] if enough else None,
        "local_share_of_all_reads": round(sum(share) / len(share), 4),
        "local_share_in_the_first_quarter": round(_mean(share[: len(share) // 4]), 4),
        "reads_from_backup": run.reads_from_backup,
        "mean_latency_ms": round(_mean(run.mean_latency_ms), 3),
    }


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def draw(runs: dict[str, dict[str, Run]], path: Path) -> None:
    """Draw one column a load: local share and share current above, latency below."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - large, and only for the picture

    figure = Figure(figsize=(13, 7.5), dpi=110, layout="constrained")
    axes = figure.subplots(2, len(runs), sharex="col", sharey="row", height_ratios=(3, 1.4))
    colours = ("#7f8c8d", "#d9822b", "#2a9d55")
    for column, (load, by_way) in enumerate(runs.items()):
        upper, lower = axes[0][column], axes[1][column]
        for colour, (way, run) in zip(colours, by_way.items(), strict=True):
            share = [100 * each for each in run.local_share[: len(run.current_share)]]
            upper.plot(share, color=colour, linewidth=2, label=way)
            current = [100 * each for each in run.current_share]
            upper.plot(current, color=colour, linewidth=1, linestyle=(0, (2, 2)))
            lower.plot(run.mean_latency_ms, color=colour, linewidth=1.6)
        upper.set_title(load, fontsize=11)
        upper.set_ylim(0, 103)
        lower.set_xlabel("seconds after the merge began (virtual)")
        lower.set_ylim(bottom=0)
        for axis in (upper, lower):
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("% of reads served locally\n(dotted: % of the volume current)")
    axes[1][0].set_ylabel("mean read, ms")
    axes[0][-1].legend(loc="lower right")
    figure.suptitle(
        "Reads during a restore: a model in virtual time, Zipf 1.1, 300 reads/s of 4 KiB, 4 GiB,\n"
        "snapshot at 50 MiB/s, backup at 8 MiB/s and 20 ms",
        fontsize=12,
    )
    figure.savefig(path)


def report() -> dict[str, Any]:
    """Measure everything; write the JSON and the picture; return what the JSON holds."""
    runs = {
        name: {way: measure(load, settings) for way, settings in WAYS.items()}
        for name, load in LOADS.items()
    }
    found = {
        "what": "a model: core, driver and merge job over rate-limited stores in virtual time",
        "loads": {
            name: {
                "load": asdict(LOADS[name]),
                "figures": {way: figures(run) for way, run in by_way.items()},
                "by_second": {way: asdict(run) for way, run in by_way.items()},
            }
            for name, by_way in runs.items()
        },
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "hottest_first.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(runs, FOLDER / "hottest_first.png")
    return found


def main() -> None:
    """Measure, print the figures, leave report and picture."""
    for name, of_load in report()["loads"].items():
        print(name)
        for way, found in of_load["figures"].items():
            print(f"  {way}: {found}")
    print(f"{FOLDER}/hottest_first.json and .png")


if __name__ == "__main__":
    main()
