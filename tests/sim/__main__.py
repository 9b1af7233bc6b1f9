"""``python -m tests.sim --seed N`` replays one seed; ``--count`` or ``--seconds`` hunts.

A hunt runs fresh seeds on all cores (from ``--first``, or from a number made of the time), makes
small what fails, prints how to replay it and leaves build/sim/report.json.
"""

from __future__ import annotations

import argparse
import time

from .hunt import Report, hunt
from .run import Simulation


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seed", type=int, help="replay this one, with a trace")
    parser.add_argument("--keep", help="only these steps of it, as in 3,17,20")
    parser.add_argument("--first", type=int, help="the first seed of a hunt")
    parser.add_argument("--count", type=int)
    parser.add_argument("--seconds", type=float)
    arguments = parser.parse_args()
    if arguments.seed is not None:
        _replay(arguments.seed, arguments.keep)
        return
    first = time.time_ns() // 1000 % 10**12 if arguments.first is None else arguments.first
    count = 1000 if arguments.count is None and arguments.seconds is None else arguments.count
    _print(report := hunt(first, count=count, seconds=arguments.seconds))
    raise SystemExit(bool(report.failed))


def _replay(seed: int, keep: str | None) -> None:
    simulation = Simulation(seed)
    try:
        simulation.run(None if keep is None else frozenset(map(int, keep.split(","))))
    finally:
        print(f"seed {seed}, mirror={simulation.world.policy.value}")
        print("\n".join(simulation.trace))
    print("passed")


def _print(report: Report) -> None:
    last = report.first_seed + report.seeds - 1
    print(
        f"{report.seeds} seeds ({report.first_seed} to {last}) in {report.seconds:.0f} s, "
        f"{report.seeds_per_second:.0f} a second: {report.failed} failed"
    )
    for failure in report.failures:
        print(f"\n{failure['error']}\n  {failure['replay']}")


if __name__ == "__main__":
    main()
