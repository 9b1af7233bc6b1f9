"""Runs many seeds on all cores, and makes small what it finds."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .shrink import failure_of, shrink

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "build" / "sim" / "report.json"
BATCH = 50
PROGRESS_SECONDS = 20.0
SHRUNK_MAX = 5
"""Failing seeds that are made small; the others are only listed."""


@dataclass(slots=True)
class Report:
    """What a hunt found. Written to build/sim/report.json."""

    seeds: int = 0
    failed: int = 0
    seeds_per_second: float = 0.0
    commit: str = ""
    first_seed: int = 0
    seconds: float = 0.0
    failing_seeds: list[int] = field(default_factory=list)
    failures: list[dict[str, object]] = field(default_factory=list)


def hunt(first_seed: int, *, count: int | None, seconds: float | None) -> Report:
    """Run seeds from *first_seed* on until *count* are done or *seconds* are over."""
    report = Report(first_seed=first_seed, commit=_commit())
    began = time.monotonic()
    end = None if seconds is None else began + seconds
    shown = began
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for done, failing in _results(pool, _batches(first_seed, count), end):
            report.seeds += done
            report.failing_seeds += failing
            if failing:
                print(f"FAILED: {' '.join(map(str, failing))}", flush=True)
            shown = _show(report, began, shown)
    report.seconds = round(time.monotonic() - began, 1)
    report.seeds_per_second = round(report.seeds / max(report.seconds, 0.001), 1)
    report.failed = len(report.failing_seeds)
    report.failures = [_explain(seed) for seed in sorted(report.failing_seeds)[:SHRUNK_MAX]]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return report


def _show(report: Report, began: float, shown: float) -> float:
    """Print how far the hunt is, every PROGRESS_SECONDS; return when that was done last."""
    now = time.monotonic()
    if now - shown < PROGRESS_SECONDS:
        return shown
    rate = report.seeds / (now - began)
    failed = len(report.failing_seeds)
    print(f"{report.seeds} seeds, {failed} failed, {rate:.0f} a second", flush=True)
    return now


def _batches(first: int, count: int | None) -> Iterator[range]:
    start, stop = first, None if count is None else first + count
    while stop is None or start < stop:
        end = start + BATCH if stop is None else min(start + BATCH, stop)
        yield range(start, end)
        start = end


def _results(
    pool: ProcessPoolExecutor, batches: Iterator[range], end: float | None
) -> Iterator[tuple[int, list[int]]]:
    """Keep the pool busy; yield (seeds, failing seeds) of each batch."""
    running: set[Future[tuple[int, list[int]]]] = set()
    while True:
        while len(running) < 2 * (os.cpu_count() or 1) and not _is_over(end):
            batch = next(batches, None)
            if batch is None:
                break
            running.add(pool.submit(_run_batch, batch))
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _is_over(end: float | None) -> bool:
    return end is not None and time.monotonic() >= end


def _run_batch(seeds: range) -> tuple[int, list[int]]:
    return len(seeds), [seed for seed in seeds if failure_of(seed)]


def _explain(seed: int) -> dict[str, object]:
    keep = shrink(seed)
    failed = failure_of(seed, keep)
    assert failed is not None
    simulation, error = failed
    words = ",".join(map(str, keep))
    return {
        "seed": seed,
        "error": f"{type(error).__name__}: {error}",
        "replay": f"python -m tests.sim --seed {seed} --keep {words}",
        "trace": simulation.trace,
    }


def _commit() -> str:
    words = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
