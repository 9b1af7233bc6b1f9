"""`python -m tests.bench`: boot the lab, measure, print a table, write build/bench/report.json.

Ours and a peer are measured in turn, in one run, in the same machines; only ratios mean something.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import hottest_first
from tests.bench.effort import Effort
from tests.bench.host_access import measure_lost_and_mirrored, measure_restored
from tests.bench.merging import MergeBench
from tests.bench.report import (
    ROUNDS_MIN,
    Figure,
    MeasurementError,
    format_line,
    format_report,
    format_table,
)
from tests.bench.rig import prepare
from vagrant.errors import LabError
from vagrant.lab import Lab

FOLDER = Path("build/bench")
_LOG = "/var/log/tcmu-runner.log"


def measure(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """Yield each figure when it is there."""
    with lab.timer.step("set up"):
        prepare(lab.primary)
        bench = MergeBench(lab, effort)
        bench.set_up()
    with lab.timer.step("restored reads"), bench.restored() as device:
        bench.merge()
        yield from measure_restored(lab, effort, device, bench.scene.size)
    with lab.timer.step("lost reads and mirrored writes"):
        yield from measure_lost_and_mirrored(lab, effort)
    with lab.timer.step("merges"):
        yield from bench.measure_alone()
    with lab.timer.step("merges while a host reads"):
        yield bench.measure_under_load()


@contextmanager
def kept_log(lab: Lab) -> Iterator[None]:
    """Keep tcmu-runner's log whatever happens: it is what explains a figure."""
    try:
        yield
    finally:
        if lab.primary.is_running:
            (FOLDER / "tcmu-runner.log").write_bytes(lab.primary.get(_LOG))


def run(effort: Effort) -> list[Figure]:
    """Measure in a lab of its own, saying each figure when it is there."""
    figures = []
    with Lab(report=print) as lab:
        lab.boot()
        with kept_log(lab):
            for figure in measure(lab, effort):
                figures.append(figure)
                print(format_line(figure), flush=True)
    return figures


def main() -> int:
    """Measure and report; the exit status is 1 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=Effort().rounds)
    parser.add_argument("--seconds", type=float, default=Effort().seconds)
    arguments = parser.parse_args()
    effort = Effort(rounds=max(arguments.rounds, ROUNDS_MIN), seconds=arguments.seconds)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "report.json").unlink(missing_ok=True)
    begin = time.monotonic()
    hottest_first.main()  # a model, without the lab
    try:
        figures = run(effort)
    except (LabError, MeasurementError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    (FOLDER / "report.json").write_text(format_report(figures))
    print(format_table(figures))
    print(f"{time.monotonic() - begin:.0f} s in all; {FOLDER / 'report.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
