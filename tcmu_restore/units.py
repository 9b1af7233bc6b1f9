"""Sizes. Everything called offset, length or size is bytes; these make numbers readable."""

from typing import Final

KiB: Final = 1024
MiB: Final = 1024 * KiB
GiB: Final = 1024 * MiB
TiB: Final = 1024 * GiB

_SCALE: Final = ((KiB, "KiB"), (MiB, "MiB"), (GiB, "GiB"), (TiB, "TiB"))

_THREE_DIGITS: Final = 999.5
"""What is rounded to more of them is written out: no ``1e+03 MiB``."""


def format_size(size: int) -> str:
    """Return *size* (bytes) for a person: ``4 KiB``, ``1.5 GiB``, ``1010 MiB``, ``17 B``."""
    text = f"{size} B"
    for unit, name in _SCALE:
        number = size / unit
        if round(number * KiB) < KiB:  # not even one of these, rounded
            break
        text = f"{number:.3g} {name}" if number < _THREE_DIGITS else f"{number:.0f} {name}"
    return text
