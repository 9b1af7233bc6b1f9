"""Sizes as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.cli.size import SIZE_MAX, parse_size
from tcmu_restore.units import GiB, KiB, MiB, TiB


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4k", 4 * KiB),
        ("4K", 4 * KiB),
        ("1M", MiB),
        ("1m", MiB),
        ("1G", GiB),
        ("2t", 2 * TiB),
        ("4KiB", 4 * KiB),
        ("4 KiB", 4 * KiB),
        (" 17 B ", 17),
        (str(SIZE_MAX), SIZE_MAX),
    ],
)
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


KELVIN_SIGN, ARABIC_FOUR = "\u212a", "\u0664"
WRONG = ["", "k", "-1", "+1", "1.5G", "1e6", "4kB", "4x", "0x10", "4k4", "4 k B", "1_0"]


@pytest.mark.parametrize("text", [*WRONG, f"4{KELVIN_SIGN}", ARABIC_FOUR])
def test_text_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number of bytes"):
        parse_size(text)


@pytest.mark.parametrize("text", [str(SIZE_MAX + 1), "16777216T"])
def test_size_that_dbus_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="larger than any disk"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**23), st.sampled_from("kKmMgGtT"))
def test_unit_multiplies_exactly(count: int, unit: str) -> None:
    factor = 1024 ** (" kmgt".index(unit.lower()))
    assert parse_size(f"{count}{unit}") == parse_size(f"{count}{unit}iB") == count * factor
