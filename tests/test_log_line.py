"""Log lines: fields for programs, a sentence for people, and nobody else's line breaks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.log_line import log_line
from tcmu_restore.text import printable

PACKAGE = Path(__file__).parents[1] / "tcmu_restore"

FIELD = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S+)) ')


def parse(line: str) -> tuple[dict[str, str], str]:
    """Read a line as a program would."""
    fields: dict[str, str] = {}
    while found := FIELD.match(line):
        fields[found[1]] = found[2] if found[3] is None else found[3]
        line = line[found.end() :]
    return fields, line


def test_fields_come_first_and_in_order() -> None:
    line = log_line("The extent is bad.", volume="vm01", operation="merge", offset=0, length=4096)
    assert line == "volume=vm01 operation=merge offset=0 length=4096 The extent is bad."


def test_what_is_not_known_is_left_out() -> None:
    assert log_line("It began.", operation="start", extent=None) == "operation=start It began."
    assert log_line("It began.") == "It began."


def test_value_that_is_no_plain_word_is_quoted() -> None:
    assert log_line("x", path='/a b"c\\') == 'path="/a b\\"c\\\\" x'
    assert log_line("x", path="a=b") == 'path="a=b" x'


@given(st.text(), st.text(min_size=1))
def test_any_words_make_one_line_that_can_be_read_again(sentence: str, value: str) -> None:
    line = log_line("- " + sentence, volume="v", source=value)
    assert line.isprintable()
    fields, rest = parse(line)
    assert list(fields) == ["volume", "source"]
    assert rest == printable("- " + sentence)
    if value.isprintable():
        assert re.sub(r"\\(.)", r"\1", fields["source"]) == value or "\\" not in line


def test_lines_of_engine_handler_and_service_are_made_here() -> None:
    """A line that names a volume in words of its own is not found by its field."""
    found = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            receiver = getattr(node.func.value, "id", "")
            if receiver not in ("log", "_log", "_LOG") or node.func.attr == "as_list":
                continue
            found += 1
            words = [part.value for part in node.args if isinstance(part, ast.Constant)]
            assert not any("volume %s" in str(word) for word in words), f"{path}: {words}"
    assert found > 20
