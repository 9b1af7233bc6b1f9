"""Sizes for people."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.units import GiB, KiB, MiB, TiB, format_size


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (4096, "4 KiB"),
        (MiB - 1, "1 MiB"),
        (1000 * MiB, "1000 MiB"),
        (1023 * MiB, "1023 MiB"),
        (GiB - 1, "1 GiB"),
        (3 * GiB // 2, "1.5 GiB"),
        (5000 * TiB, "5000 TiB"),
    ],
)
def test_size(size: int, words: str) -> None:
    assert format_size(size) == words


@given(st.integers(0, 2**64))
def test_size_has_plain_digits_and_is_nearly_exact(size: int) -> None:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ([KMGT]i)?B", format_size(size))
    assert found is not None
    number = float(found[1]) * {None: 1, "Ki": KiB, "Mi": MiB, "Gi": GiB, "Ti": TiB}[found[2]]
    assert abs(number - size) <= size * 0.006
    assert found[2] == "Ti" or float(found[1]) < 1024
