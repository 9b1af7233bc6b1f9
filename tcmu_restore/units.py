"""Sizes. Everything called offset, length or size is bytes; these make numbers readable."""

from typing import Final

KiB: Final = 1024
MiB: Final = 1024 * KiB
GiB: Final = 1024 * MiB
TiB: Final = 1024 * GiB

_SCALE: Final = ((TiB, "TiB"), (GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB"))


def format_size(size: int) -> str:
    """Return *size* (bytes) for a person: ``4 KiB``, ``1.5 GiB``, ``17 B``."""
    for unit, name in _SCALE:
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} B"
