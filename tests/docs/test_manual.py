"""The manual pages name every command, option and setting, and groff has nothing to say."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import click
import pytest

import targetcli_ext
from tcmu_restore import options
from tcmu_restore.cli.main import cli
from tcmu_restore.engine import definition
from tcmu_restore.engine.link_settings import BULK_KEYS
from tcmu_restore.handler.install import MANUAL
from tcmu_restore.sources.credentials import Credentials

PAGES = sorted(MANUAL.iterdir())


def plain(page: str) -> str:
    """Return a page's source without fonts and escapes, and macros as they stand."""
    text = (MANUAL / page).read_text()
    return re.sub(r"\\f.", "", text.replace("\\-", "-").replace("\\&", ""))


def sections(page: str) -> dict[str, str]:
    """Return the text below each .SS heading, by the heading without its arguments."""
    parts = re.split(r"^\.SS (.*)$", plain(page), flags=re.MULTILINE)
    texts: dict[str, str] = {}
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        words = re.match(r"[a-z_-]+(?: [a-z-]+(?![\w=|]))*", heading)
        name = words[0] if words else heading
        texts[name] = texts.get(name, "") + heading + text.partition("\n.SH ")[0]
    return texts


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def option_names(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield from (*parameter.opts, *parameter.secondary_opts)


def has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def complain(page: str, lacks: list[str]) -> None:
    assert not lacks, f"tcmu_restore/manual/{page} lacks: {'; '.join(lacks)}"


def test_every_command_and_option_is_in_tcmu_restore_8() -> None:
    page = "tcmu-restore.8"
    texts, lacks = sections(page), []
    for name, command in commands(cli):
        if name not in texts:
            lacks.append(f"a section '.SS {name}'")
            continue
        found = option_names(command)
        lacks += [f"{option} of {name}" for option in found if not has_word(texts[name], option)]
    whole = plain(page)
    lacks += [option for option in option_names(cli) if not has_word(whole, option)]
    complain(page, lacks)


def test_tcmu_restore_8_has_no_command_that_is_not_there() -> None:
    known = {name for name, _ in commands(cli)}
    groups = {name.rpartition(" ")[0] for name in known}
    unknown = sections("tcmu-restore.8").keys() - known - groups
    assert not unknown, (
        f"tcmu_restore/manual/tcmu-restore.8 has, and the program has not: {unknown}"
    )


def test_every_setting_is_in_tcmu_restore_toml_5() -> None:
    page = "tcmu-restore.toml.5"
    kinds = [options.VolumeOptions, Credentials, *definition_classes()]
    names = {item.name for kind in kinds for item in fields(kind)}
    names |= settings_taken_by(inspect.getsource(definition)) | set(BULK_KEYS)
    text = plain(page)
    complain(page, sorted(name for name in names if not has_word(text, name)))


def test_defaults_in_tcmu_restore_toml_5_are_the_program_s() -> None:
    text, defaults = plain("tcmu-restore.toml.5"), options.VolumeOptions()
    wrong = []
    for item in fields(options.VolumeOptions):
        said = re.search(rf'^\.BR {item.name} " = (\S+)"$', text, re.MULTILINE)
        if said is None or said[1] != str(getattr(defaults, item.name)):
            wrong.append(f"{item.name} = {getattr(defaults, item.name)}")
    assert not wrong, f"tcmu_restore/manual/tcmu-restore.toml.5 should say: {'; '.join(wrong)}"


def definition_classes() -> list[type]:
    """Return every class of a table of the file."""
    ours = (definition.__name__, options.__name__)
    found = (kind for kind in vars(definition).values() if isinstance(kind, type))
    return [kind for kind in found if is_dataclass(kind) and kind.__module__ in ours]


def settings_taken_by(source: str) -> set[str]:
    """Return the names that a parser takes out of a table: `_take(table, "name", kind)`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "_take":
            name = node.args[1]
            if isinstance(name, ast.Constant):
                names.add(str(name.value))
    return names


def test_settings_are_found_in_the_parser() -> None:
    found = settings_taken_by(inspect.getsource(definition))
    assert {"primary", "backup", "mirror", "url", "credentials"} <= found


def shell_commands() -> Iterator[tuple[str, str, list[str]]]:
    """Yield targetcli's commands of ours: module, name, parameters.

    Read from the source: their base classes come from a targetcli that may not be here.
    """
    folder = Path(inspect.getfile(targetcli_ext)).parent
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("ui_command_"):
                parameters = [argument.arg for argument in node.args.args if argument.arg != "self"]
                yield path.name, node.name.removeprefix("ui_command_"), parameters


def test_every_shell_command_and_parameter_is_in_targetcli_restore_8() -> None:
    page = "targetcli-restore.8"
    texts, lacks = sections(page), []
    for module, name, parameters in shell_commands():
        if name not in texts:
            lacks.append(f"a section '.SS {name}' ({module})")
            continue
        text = texts[name]
        lacks += [f"{word}= of {name}" for word in parameters if not is_told(word, text)]
    complain(page, lacks)


def is_told(word: str, text: str) -> bool:
    """Return whether a parameter is told, as name= or NAME; an action by the words it may be."""
    return f"{word}=" in text or has_word(text, word.upper()) or (word == "action" and "|" in text)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_groff_has_no_warning(page: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not here: apt install groff-base")  # .ci/install has it
    result = subprocess.run(
        [groff, "-man", "-ww", "-Tutf8", "-z", page], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_no_section_stands_twice_in_a_chapter(page: str) -> None:
    for chapter in re.split(r"^\.SH ", plain(page), flags=re.MULTILINE):
        found = re.findall(r"^\.SS (\S+ ?[a-z-]*)", chapter, flags=re.MULTILINE)
        assert len(found) == len(set(found)), chapter.partition("\n")[0]
