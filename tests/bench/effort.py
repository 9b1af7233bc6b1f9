"""How much a run measures."""

from __future__ import annotations

from dataclasses import dataclass

from tcmu_restore.units import MiB


@dataclass(frozen=True, slots=True)
class Effort:
    """Rounds of each figure, seconds of each measurement, and the merged volume's content."""

    rounds: int = 3
    seconds: float = 4.0
    data_size: int = 56 * MiB
    hole_size: int = 8 * MiB
    read_size: int = 4 * MiB
    """What a host reads of the lost bytes before the merge."""

    @property
    def volume_size(self) -> int:
        """Bytes of the volume that is merged."""
        return self.data_size + self.hole_size
