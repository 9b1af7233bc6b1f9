"""`python -m tests.lab.soak --times 10`: every failure scenario, again and again, on one lab.

One line a scenario and run, and build/lab/soak.json at the end and after each round. A scenario
that fails leaves the machines' logs in build/lab, and the next one gets a fresh lab.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from vagrant import host
from vagrant.errors import HostCommandError
from vagrant.lab import Lab

from .failures import SCENARIOS
from .failures.evidence import FOLDER
from .failures.metadata_cost import measure_metadata_cost

REPORT = FOLDER / "soak.json"
ERROR_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario, once."""

    scenario: str
    passed: bool
    seconds: float
    error: str


class Soak:
    """Runs scenarios on a lab that is booted when it is needed."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._stack = ExitStack()
        self._lab: Lab | None = None

    def run(self, name: str, scenario: Callable[[Lab], None], *, round_number: int) -> None:
        """Run one scenario, print its line and write the report."""
        lab = self._booted()
        start, error = time.monotonic(), ""
        try:
            scenario(lab)
        except Exception as failed:  # noqa: BLE001 (whatever it is, the next one goes on)
            error = f"{type(failed).__name__}: {failed}"[:ERROR_LENGTH]
        seconds = round(time.monotonic() - start, 1)
        self.runs.append(Run(name, not error, seconds, error))
        print(f"{round_number:5}  {name:24} {'failed' if error else 'passed'} {seconds:7.1f} s")
        if error:
            print(f"       {error.splitlines()[0]}")
            self.close()
        sys.stdout.flush()
        self.write_report()

    def write_report(self) -> None:
        """Write build/lab/soak.json."""
        passed = sum(run.passed for run in self.runs)
        document = {
            "commit": _commit(),
            "runs": [asdict(run) for run in self.runs],
            "passed": passed,
            "failed": len(self.runs) - passed,
        }
        FOLDER.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(json.dumps(document, indent=2) + "\n")

    def close(self) -> None:
        """End the lab; the next scenario boots another."""
        self._lab = None
        self._stack.close()

    def _booted(self) -> Lab:
        if self._lab is None:
            lab = self._stack.enter_context(Lab())
            lab.boot()
            self._lab = lab
        return self._lab


@contextmanager
def _soak() -> Iterator[Soak]:
    soak = Soak()
    try:
        yield soak
    finally:
        soak.close()


def _commit() -> str:
    try:
        return host.run("git", "-C", host.REPOSITORY, "describe", "--always", "--dirty").strip()
    except HostCommandError:  # an unpacked release, not a clone
        return "unknown"


def main() -> int:
    """Run everything so many times; the status is 1 when something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.soak", description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="repeatable")
    parser.add_argument("--cost-seconds", type=int, default=60, help="0: do not measure")
    arguments = parser.parse_args()
    with _soak() as soak:
        if arguments.cost_seconds:
            cost_seconds = arguments.cost_seconds

            def metadata_cost(lab: Lab) -> None:
                print(measure_metadata_cost(lab, seconds=cost_seconds))

            soak.run("metadata_cost", metadata_cost, round_number=0)
        for round_number in range(1, arguments.times + 1):
            for name in arguments.only or SCENARIOS:
                soak.run(name, SCENARIOS[name], round_number=round_number)
    failed = [run for run in soak.runs if not run.passed]
    print(f"{len(soak.runs) - len(failed)} passed, {len(failed)} failed: {REPORT}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
