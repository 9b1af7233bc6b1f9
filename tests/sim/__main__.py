"""``python -m tests.sim --seed N`` replays one seed; ``--count N`` hunts."""

from __future__ import annotations

import argparse
import time

from .run import run_seed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    arguments = parser.parse_args()
    began, failing = time.perf_counter(), []
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        try:
            run_seed(seed)
        except AssertionError as failure:
            if arguments.count == 1:
                raise
            failing.append((seed, str(failure)))
    rate = arguments.count / (time.perf_counter() - began)
    print(f"{arguments.count} seeds, {len(failing)} failed, {rate:.0f} a second; {failing[:5]}")
    raise SystemExit(bool(failing))


main()
