"""`python -m tests.bench.heat_cost`: what it costs to count accesses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from tcmu_restore.core.geometry import Geometry
from tcmu_restore.core.heat import COUNTED_MAX, Heat
from tcmu_restore.core.intent_log import IntentLog
from tcmu_restore.core.merge_order import MergeOrder
from tcmu_restore.core.overwrite_map import OverwriteMap
from tcmu_restore.core.state import VolumeState
from tcmu_restore.units import KiB, MiB, TiB

REPORT = Path("build/bench/heat_cost.json")
ACCESSES = 200_000
ROUNDS = 5


def measure() -> dict[str, float]:
    """Return microseconds, the best of some rounds."""
    geometry = Geometry(64 * TiB, 512, 4 * KiB, 4 * MiB)
    rng = Random(3)
    blocks = geometry.size // (4 * KiB)
    cold = [rng.randrange(blocks) * 4 * KiB for _ in range(ACCESSES)]
    hot = [int(rng.paretovariate(1.0)) % blocks * 64 * MiB % geometry.size for _ in cold]
    heat = Heat(geometry)
    found = {
        "count, skewed accesses": _each(heat.count, hot),
        "count, accesses all over 64 TiB": _each(heat.count, cold),
        "call of an empty function": _each(_nothing, cold),
    }
    full = _full(geometry)
    found["longest single count, the coldest give way"] = _overflow(full)
    found["hot chunks, in order"] = _best(full.hot_chunks)
    found["as a fact, for the state"] = _best(full.as_fact)
    state = VolumeState(
        geometry,
        OverwriteMap(geometry.region_count),
        IntentLog(zone_count=geometry.zone_count),
        0,
        0,
    )
    state.heat = full
    order = MergeOrder(state)
    found["the merge's next step, what is hot looked at anew"] = _best(lambda: _look(order))
    found["the merge's next step"] = _best(lambda: order.next_step(MiB))
    return {what: round(seconds * 1e6, 3) for what, seconds in found.items()}


def _nothing(offset: int, length: int) -> None:
    del offset, length


def _each(call: Callable[[int, int], None], offsets: list[int]) -> float:
    def run() -> None:
        for offset in offsets:
            call(offset, 4096)

    return _best(run) / len(offsets)


def _best(run: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def _full(geometry: Geometry) -> Heat:
    """Return counts of as many chunks as are remembered, half of them hot."""
    heat, rng = Heat(geometry), Random(4)
    flat = [number for _ in range(COUNTED_MAX) for number in (1, rng.randrange(1, 100))]
    heat.restore({"chunk_size": heat.chunk_size, "accesses": 1000, "counts": flat})
    return heat


def _overflow(heat: Heat) -> float:
    chunk, times = COUNTED_MAX + 1, []
    for number in range(COUNTED_MAX):
        began = time.perf_counter()
        heat.count((chunk + number) * heat.chunk_size, 4096)
        times.append(time.perf_counter() - began)
    return max(times)


def _look(order: MergeOrder) -> None:
    order._steps_until_look = 0
    order.next_step(MiB)


def main() -> None:
    """Measure, print and keep."""
    found = measure()
    for what, microseconds in found.items():
        print(f"{microseconds:10.3f} us  {what}")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"unit": "us", "figures": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
