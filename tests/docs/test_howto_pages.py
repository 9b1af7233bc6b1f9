"""The how-tos can be run, and what they type exists. They are run in tests/lab."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from tcmu_restore.cli.main import cli
from tests.lab.howto import HOWTOS, HowToError, Step, find_missing_line, read_steps, run_steps
from tests.lab.test_howtos import LabStage

REPOSITORY = HOWTOS.parents[1]
PAGES = sorted(HOWTOS.glob("*.md"))
RUN_PAGES = [path for path in PAGES if path.name != "README.md"]


@pytest.mark.parametrize("path", RUN_PAGES, ids=lambda path: path.stem)
def test_page_can_be_run(path: Path) -> None:
    steps = read_steps(path)
    assert any(step.script for step in steps)
    unknown = {step.event for step in steps if step.event} - LabStage.EVENTS.keys()
    assert not unknown, f"{path.name}: nothing makes {unknown} happen"


@pytest.mark.parametrize("path", RUN_PAGES, ids=lambda path: path.stem)
def test_commands_exist(path: Path) -> None:
    for step in read_steps(path):
        for line in step.script.replace("\\\n", " ").splitlines():
            words = shlex.split(line)
            if words[:1] == ["tcmu-restore"]:
                parse(cli, words[1:], f"{path.name}, line {step.line}: {line}")


@pytest.mark.parametrize("path", RUN_PAGES, ids=lambda path: path.stem)
def test_bash_takes_every_block(path: Path) -> None:
    for step in read_steps(path):
        subprocess.run(["bash", "-n"], input=step.script, text=True, check=True)


def parse(group: click.Group, words: list[str], where: str) -> None:
    """Let click parse a command without running it."""
    command = group.commands.get(words[0])
    assert command is not None, f"{where}: there is no command {words[0]}"
    if isinstance(command, click.Group):
        parse(command, words[1:], where)
        return
    for parameter in command.params:  # a path of the lab is not here
        if isinstance(parameter.type, click.Path):
            words = [word for word in words if not word.startswith("/mnt")] + ["/"]
    try:
        command.make_context(words[0], words[1:])
    except click.UsageError as error:
        pytest.fail(f"{where}: {error.message}")


@pytest.mark.parametrize("path", [*PAGES, REPOSITORY / "README.md"], ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    broken = [t for t in targets if "://" not in t and not (path.parent / t).exists()]
    assert not broken, f"{path.name}: {broken}"


def test_every_how_to_is_in_the_table() -> None:
    table = (HOWTOS / "README.md").read_text()
    assert [path.name for path in RUN_PAGES if f"]({path.name})" not in table] == []


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text)
    return path


def test_steps_are_read_in_order(tmp_path: Path) -> None:
    text = "<!-- lab: it breaks -->\n```sh\n# on the primary\nls\n```\nthen\n```text\na … c\n```\n"
    steps = read_steps(page(tmp_path, f"{text}```sh\n# on an initiator\ntrue\n```\n"))
    assert steps == [
        Step(1, event="it breaks"),
        Step(2, "primary", "ls\n", expected=("a … c",)),
        Step(10, "initiator", "true\n"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("```sh\nls\n```\n", "does not begin with"),
        ("```text\nls\n```\n", "an answer to nothing"),
        ("```\nls\n```\n", "without a language"),
        ("```sh\n# on the primary\n", "without an end"),
    ],
)
def test_what_cannot_be_run_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(HowToError, match=words):
        read_steps(page(tmp_path, text))


def test_answer_must_have_every_line_in_order() -> None:
    answer = "state    in sync\nregions  100 % current, 0 lost\n"
    assert find_missing_line(answer, ("in sync", "100 % … lost")) is None
    assert find_missing_line(answer, ("100 %", "in sync")) == "in sync"
    assert find_missing_line(answer, ("degraded",)) == "degraded"


def test_wrong_answer_ends_the_run(tmp_path: Path) -> None:
    path = page(tmp_path, "```sh\n# on the primary\nls\n```\n```text\nhere\n```\n")
    with pytest.raises(HowToError, match="line 1: the answer lacks 'here'"):
        run_steps(path, read_steps(path), lambda *_: "nothing", print, sleep=print)


def test_status_is_asked_until_it_is_as_written(tmp_path: Path) -> None:
    text = "```sh\n# on the primary\ntcmu-restore status v\n```\n```text\nin sync\n```\n"
    path = page(tmp_path, text)
    answers = iter(["restoring", "restoring", "in sync"])
    slept: list[float] = []
    run_steps(path, read_steps(path), lambda *_: next(answers), print, sleep=slept.append)
    assert len(slept) == 2
