"""Hostile text is written out; plain text stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.text import printable, printable_all


@given(st.text())
def test_result_is_printable_and_printable_text_is_kept(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\x1b[2J", "a\\x1b[2J"), ("a\nb", "a\\nb"), ("\udcff", "\\udcff"), ("Größe", "Größe")],
)
def test_what_is_not_printable_is_written_out(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_documents_are_cleaned_wholly_and_numbers_kept() -> None:
    document = {"a\n": ["\x07", 1, None, {"b": "\x1b"}], "c": 1.5}
    assert printable_all(document) == {"a\\n": ["\\x07", 1, None, {"b": "\\x1b"}], "c": 1.5}
