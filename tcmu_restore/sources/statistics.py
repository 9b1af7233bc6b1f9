"""Counters of one source, cheap enough for every command."""

from __future__ import annotations

from typing import Final

SMOOTHING: Final = 1 / 16
"""Weight of one new latency: the average follows a change within some dozens of commands."""


class SourceStatistics:
    """What a source has moved, and how fast. Only its source writes to it."""

    __slots__ = (
        "failed_commands",
        "latency_seconds",
        "read_bytes",
        "read_commands",
        "retried_commands",
        "session_losses",
        "written_bytes",
        "written_commands",
    )

    def __init__(self) -> None:
        self.read_commands = 0
        self.read_bytes = 0
        self.written_commands = 0
        self.written_bytes = 0
        self.retried_commands = 0
        self.failed_commands = 0
        self.session_losses = 0
        self.latency_seconds = 0.0
        """Exponentially weighted average over reads and writes, 0.0 before the first."""

    def count_read(self, length: int, seconds: float) -> None:
        """Count a read of *length* bytes that took *seconds*."""
        self.read_commands += 1
        self.read_bytes += length
        self._smooth(seconds)

    def count_write(self, length: int, seconds: float) -> None:
        """Count a write of *length* bytes that took *seconds*."""
        self.written_commands += 1
        self.written_bytes += length
        self._smooth(seconds)

    def _smooth(self, seconds: float) -> None:
        average = self.latency_seconds
        self.latency_seconds = average + (seconds - average) * SMOOTHING if average else seconds
