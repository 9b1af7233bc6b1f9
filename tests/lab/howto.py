"""Reads what a how-to tells its reader to type, and types it.

A fenced block of the language `sh` is typed; its first line says where, as in `# on the primary`.
A block of the language `text` right after it is what the answer must show: each of its lines, in
this order, where `…` stands for anything. Blocks of other languages are looked at, not typed.
`<!-- lab: NAME -->` is where something happens that nobody types, as a disk that is pulled out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HOWTOS = Path(__file__).resolve().parents[2] / "docs/howto"

ASKED_AGAIN_TIMES = 40
ASK_SECONDS = 1.5
"""A block that only asks for the status is typed again until it answers as written: a minute."""

_PLACE = re.compile(r"# on (?:the|an) (primary|backup host|initiator|new host)")
_FENCE = re.compile(r"^```(\w*)$")
_EVENT = re.compile(r"^<!-- lab: (.+) -->$")


class HowToError(Exception):
    """A how-to is not of the form that can be run, or did not say what happens."""


@dataclass(frozen=True, slots=True)
class Step:
    """One block to type, or one event."""

    line: int
    place: str = ""
    script: str = ""
    event: str = ""
    expected: tuple[str, ...] = ()

    @property
    def asks_only(self) -> bool:
        """Whether it changes nothing, so that a reader would type it again."""
        lines = self.script.splitlines()
        return all(line.startswith("tcmu-restore status") for line in lines)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    line: int
    language: str
    lines: tuple[str, ...]


def read_steps(path: Path) -> list[Step]:
    """Return what is to be typed and what happens, in order.

    Raises:
        HowToError: a typed block does not say where, or an answer follows nothing typed.
    """
    steps: list[Step] = []
    for part in _read_parts(path.read_text()):
        where = f"{path.name}, line {part.line}"
        if isinstance(part, Step):
            steps.append(part)
        elif part.language == "sh":
            steps.append(_typed(part, where))
        elif part.language == "text":
            if not steps or steps[-1].expected or steps[-1].event:
                raise HowToError(f"{where}: an answer to nothing")
            steps[-1] = Step(steps[-1].line, steps[-1].place, steps[-1].script, "", part.lines)
        elif not part.language:
            raise HowToError(f"{where}: a block without a language")
    return steps


def run_steps(
    path: Path,
    steps: list[Step],
    run: Callable[[str, str], str],
    happen: Callable[[str], None],
    say: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Type every step and compare the answers.

    Args:
        run: Runs a script at a place and returns all it printed; raises if its status is not 0.
        happen: Makes happen what a comment says.

    Raises:
        HowToError: an answer lacks a line, with the answer.
    """
    for step in steps:
        where = f"{path.name}, line {step.line}"
        if step.event:
            say(f"{where}: {step.event}")
            happen(step.event)
            continue
        say(f"{where}: on the {step.place}\n{step.script}")
        for _ in range(ASKED_AGAIN_TIMES if step.asks_only else 1):
            answer = run(step.place, step.script)
            missing = find_missing_line(answer, step.expected)
            if missing is None:
                break
            sleep(ASK_SECONDS)
        say(answer)
        if missing is not None:
            raise HowToError(f"{where}: the answer lacks {missing!r}:\n{answer}")


def find_missing_line(answer: str, expected: tuple[str, ...]) -> str | None:
    """Return the first expected line that is not in the answer after those before it."""
    lines = iter(answer.splitlines())
    for line in expected:
        pattern = re.compile(".*".join(_words_pattern(piece) for piece in line.split("…")))
        if not any(pattern.search(said) for said in lines):
            return line
    return None


def _words_pattern(text: str) -> str:
    """Spaces are not counted: a table's columns depend on what stands in them."""
    return r"\s+".join(re.escape(word) for word in re.split(r"\s+", text.strip()))


def _typed(block: Block, where: str) -> Step:
    found = _PLACE.match(block.lines[0]) if block.lines else None
    if found is None:
        raise HowToError(f"{where}: it does not begin with '# on the primary' or the like")
    return Step(block.line, found[1], "\n".join(block.lines[1:]) + "\n")


def _read_parts(text: str) -> Iterator[Step | Block]:
    """Yield events and fenced blocks in order."""
    block: list[str] | None = None
    start, language = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        fence, event = _FENCE.match(line), _EVENT.match(line)
        if block is not None and line == "```":
            yield Block(start, language, tuple(block))
            block = None
        elif block is not None:
            block.append(line)
        elif fence:
            block, start, language = [], number, fence[1]
        elif event:
            yield Step(number, event=event[1])
    if block is not None:
        raise HowToError(f"line {start}: a block without an end")
