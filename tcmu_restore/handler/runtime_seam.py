"""What the handler needs of the service: the seam between tcmu-runner and everything else.

``tcmu_restore.service.runtime.Runtime`` is the real one; tests bring their own.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..engine.command import Command


class VolumeEngine(Protocol):
    """An open volume. Everything is called on the loop's thread."""

    @property
    def region_size(self) -> int:
        """Bytes; a power of two, at least a block."""

    @property
    def size(self) -> int:
        """Bytes. Any thread."""

    def lio_resized(self, size: int) -> None:
        """LIO's backstore has *size* bytes now."""

    def submit(self, command: Command) -> None:
        """Take over *command*; may complete it at once."""


class Runtime(Protocol):
    """The engine's thread with its event loop, and the D-Bus service on it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop, once started."""

    def start(self) -> None:
        """Return when everything is up, or raise. Called once, on tcmu-runner's main thread."""

    def stop(self) -> None:
        """Return when the thread has ended."""

    def check(self, name: str) -> None:
        """Raise RestoreError if the volume's definition cannot be used. Any thread; local only."""

    async def open_volume(self, name: str, size: int, block_size: int) -> VolumeEngine:
        """Open a volume of *size* bytes; must not need its backup."""

    async def close_volume(self, name: str) -> None:
        """Close it; returns when nothing is in flight."""
