"""Commands that must be refused, each in one sentence; run in one interpreter of the machine.

Starting one takes seconds in an emulated machine, and the tables of bad input are long.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from vagrant.machine import Machine

STILL_WAITING = "Waiting for the service"
"""What is said after two seconds of a call, which pass soon here; no part of the answer."""

_RUN_ALL = """
import contextlib, io, json, sys
from tcmu_restore.cli.main import main
answers = {}
for case, command in json.load(open("/tmp/cases.json")).items():
    sys.argv = ["tcmu-restore", *command.split()]
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    answers[case] = [status, output.getvalue(), errors.getvalue()]
print(json.dumps(answers))
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command printed, what it complained of line by line, and its exit status."""

    status: int
    output: str
    sentences: tuple[str, ...]

    def is_refusal(self, words: str) -> bool:
        """Whether it is one sentence that has *words* in it, and a failure."""
        return self.status != 0 and len(self.sentences) == 1 and words in self.sentences[0]


def run_all(machine: Machine, commands: Mapping[str, str]) -> dict[str, Answer]:
    """Run ``tcmu-restore`` with each of *commands*, in order; return what each said."""
    machine.put("/tmp/cases.json", json.dumps(commands).encode())
    machine.put("/tmp/run_all.py", _RUN_ALL.encode())
    answers = json.loads(machine.run("python3 /tmp/run_all.py", timeout_seconds=600))
    return {
        case: Answer(status, output, _sentences(errors))
        for case, (status, output, errors) in answers.items()
    }


def not_refused(machine: Machine, cases: Mapping[str, tuple[str, str]]) -> dict[str, Answer]:
    """Run each case, a command and words of its refusal; return what was not refused like that."""
    answers = run_all(machine, {case: command for case, (command, _) in cases.items()})
    return {
        case: answers[case]
        for case, (_, words) in cases.items()
        if answers[case].output or not answers[case].is_refusal(words)
    }


def _sentences(text: str) -> tuple[str, ...]:
    lines = [line for line in text.splitlines() if line.strip()]
    return tuple(line for line in lines if not line.startswith(STILL_WAITING))
