"""Planted mistakes: each is a small change of the core that the simulator has to notice.

``python -m tests.sim.mutants`` tries all of them, prints the table and leaves it as
build/sim/mutants.json. A mutation changes the source of one module as it is imported, in a process
of its own; nothing on disk is touched.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

from .mutations import MUTATIONS, Mutation

SEEDS_MAX = 3000
ENOUGH = 3
"""Failing seeds after which a mutation counts as caught and its run ends."""

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "build" / "sim" / "mutants.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the simulator made of one mutation."""

    mutation: str
    rule: str
    seeds: int
    failing: int
    first_seed: int | None
    seconds: float
    error: str


class _MutatingLoader(SourceFileLoader):
    def __init__(self, name: str, path: str, mutation: Mutation) -> None:
        super().__init__(name, path)
        self._mutation = mutation

    def get_code(self, fullname: str) -> Any:
        source = Path(self.path).read_text(encoding="utf-8")
        return compile(self._mutation.apply(source), self.path, "exec")


class _MutatingFinder(MetaPathFinder):
    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != f"tcmu_restore.core.{self._mutation.module}":
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _MutatingLoader(name, spec.origin, self._mutation)
        return spec


def try_here(mutation: Mutation, seeds_max: int, enough: int) -> Outcome:
    """Run seeds with *mutation* in this process, which has not imported the core yet."""
    assert f"tcmu_restore.core.{mutation.module}" not in sys.modules
    sys.meta_path.insert(0, _MutatingFinder(mutation))
    from .run import run_seed  # noqa: PLC0415 - the core must not be imported before

    began, failing, error, seed = time.perf_counter(), [], "", -1
    for seed in range(seeds_max):
        try:
            run_seed(seed)
        except Exception as failure:  # noqa: BLE001 - a mutation may break anything
            failing.append(seed)
            error = error or f"{type(failure).__name__}: {failure}"
            if len(failing) >= enough:
                break
    seconds = time.perf_counter() - began
    first = failing[0] if failing else None
    return Outcome(
        mutation.name, mutation.rule, seed + 1, len(failing), first, round(seconds, 2), error[:100]
    )


def try_apart(mutation: Mutation, seeds_max: int, enough: int) -> Outcome:
    """Run ``try_here`` in a new process."""
    words = [sys.executable, "-m", "tests.sim.mutants", "--one", mutation.name]
    words += ["--seeds", str(seeds_max), "--enough", str(enough)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{mutation.name}: {done.stderr[-500:]}"
    return Outcome(**json.loads(done.stdout))


def try_all(seeds_max: int, enough: int) -> Iterator[Outcome]:
    """Try every mutation, as many at once as there are cores."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(lambda one: try_apart(one, seeds_max, enough), MUTATIONS)


def row(outcome: Outcome) -> str:
    """Return one line of the table."""
    first = "NOT CAUGHT" if outcome.first_seed is None else str(outcome.first_seed)
    return f"{outcome.rule:8} {first:>10} {outcome.failing:4}/{outcome.seeds:<5} {outcome.mutation}"


HEADER = "rule     first seed failing    mutation"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants")
    parser.add_argument("--one", help="only this mutation; prints JSON")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX)
    parser.add_argument("--enough", type=int, default=ENOUGH)
    arguments = parser.parse_args()
    if arguments.one:
        mutation = next(one for one in MUTATIONS if one.name == arguments.one)
        print(json.dumps(asdict(try_here(mutation, arguments.seeds, arguments.enough))))
        return
    print(HEADER)
    outcomes = []
    for outcome in try_all(arguments.seeds, arguments.enough):
        outcomes.append(outcome)
        print(row(outcome), flush=True)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
    missed = [outcome.mutation for outcome in outcomes if outcome.first_seed is None]
    print(f"{len(outcomes) - len(missed)} of {len(outcomes)} mutations caught; {REPORT}")
    raise SystemExit(bool(missed))


if __name__ == "__main__":
    main()
