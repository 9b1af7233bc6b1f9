"""Runs libiscsi's SCSI conformance suite against a LUN of the primary and reads its report.

Comparing sets of names with those of a stock handler on the same kernel says what a handler does to
SCSI behaviour; the absolute counts depend on kernel and tool. Everything on the LUN is overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vagrant.machine import Machine

FAMILY = "SCSI"
LUN_SIZE = "64M"  # some tests write the whole LUN
_TIMEOUT_SECONDS = 900.0

_SUITE = re.compile(r"^Suite: (\S+)")
_TEST = re.compile(r"^  Test: (\S+) \.\.\.(.*)")
# What the report needs; one failed comparison alone prints a thousand other lines.
_WANTED_LINES = r"^Suite: |^  Test: |^passed|^FAILED|\[SKIPPED\]|^Tests completed"


@dataclass(frozen=True)
class ConformanceReport:
    """Names of tests, as `Suite.Test`, by how they ended. Skipped: the LUN lacks the feature."""

    passed: frozenset[str]
    failed: frozenset[str]
    skipped: frozenset[str]

    def __str__(self) -> str:
        counts = f"{len(self.passed)} passed, {len(self.skipped)} skipped"
        names = " ".join(sorted(self.failed))
        return f"{counts}, {len(self.failed)} failed: {names}"


def run_conformance(
    machine: Machine, portal: str, iqn: str, *, tests: str = FAMILY
) -> ConformanceReport:
    """Run the suite on a machine against LUN 0 of a target and return the report.

    Args:
        machine: what plays the initiator.
        portal: an address of the target.
        iqn: the target's name.
        tests: FAMILY[.SUITE[.TEST]][,...]

    Raises:
        GuestTimeoutError: a command was never answered.
        ValueError: the suite did not run to its end.
    """
    words = f"iscsi-test-cu --dataloss --allow-sanitize -t {tests} iscsi://{portal}/{iqn}/0"
    report = "/run/conformance"
    script = f"({words} 2>&1 || true) >{report}; grep -aE '{_WANTED_LINES}' {report}"
    return parse_report(machine.run(script, timeout_seconds=_TIMEOUT_SECONDS))


def parse_report(text: str) -> ConformanceReport:
    """Read the suite's output, or only the lines of it that matter.

    Raises:
        ValueError: the output ends before the suite did.
    """
    if "Tests completed" not in text:
        raise ValueError(f"the conformance suite did not end by itself:\n{text[-2000:]}")
    names: dict[str, set[str]] = {"passed": set(), "failed": set(), "skipped": set()}
    for name, outcome in _outcomes(text):
        names[outcome].add(name)
    return ConformanceReport(
        frozenset(names["passed"]), frozenset(names["failed"]), frozenset(names["skipped"])
    )


def _outcomes(text: str) -> Iterator[tuple[str, str]]:
    """Yield each test and how it ended.

    The verdict follows the test's name, at the end of the same line or, when the test printed
    something, at the beginning of a later one. A skipped test counts as passed for the tool.
    """
    suite, test, is_skipped = "", "", False
    for line in text.splitlines():
        rest = line
        if found := _SUITE.match(line):
            suite = found.group(1)
        elif found := _TEST.match(line):
            test, is_skipped, rest = found.group(1), False, found.group(2)
        is_skipped = is_skipped or "[SKIPPED]" in rest
        if test and rest.startswith(("passed", "FAILED")):
            failed = rest.startswith("FAILED")
            yield f"{suite}.{test}", "failed" if failed else "skipped" if is_skipped else "passed"
            test = ""


def serve_qcow(primary: Machine) -> str:
    """Serve a raw file through tcmu-runner's stock handler; return the IQN."""
    primary.run(f"rm -f /root/qcow.raw; truncate -s {LUN_SIZE} /root/qcow.raw")
    options = f"--plugin user --size {LUN_SIZE}"
    return primary.run(f"lab-export conformance-qcow qcow//root/qcow.raw {options}").strip()


def serve_fileio(primary: Machine) -> str:
    """Serve a raw file through the kernel's own backstore; return the IQN."""
    primary.run("rm -f /root/fileio.raw")
    options = f"--plugin fileio --size {LUN_SIZE}"
    return primary.run(f"lab-export conformance-fileio /root/fileio.raw {options}").strip()


def stop_serving(primary: Machine, iqn: str) -> None:
    """Take a target and its storage object away."""
    name = iqn.partition(":")[2]
    primary.run(f"lab-export {name} - --remove")
