"""Stands for a recorded snapshot that is not here: every read says so, and may be tried again."""

from __future__ import annotations

from asyncio import Future, get_running_loop

from ..core.buffer import Buffers
from ..errors import SourceUnreachableError
from .base import BlockSource, SourceGeometry


class AbsentSource(BlockSource):
    """What is known of it is what was recorded; *reason* says why it is not used."""

    __slots__ = ("_geometry", "_name", "reason")

    def __init__(self, name: str, geometry: SourceGeometry, reason: str) -> None:
        self._name = name
        self._geometry = geometry
        self.reason = reason

    @property
    def name(self) -> str:
        """Where it was."""
        return self._name

    @property
    def geometry(self) -> SourceGeometry:
        """As recorded when it was attached."""
        return self._geometry

    @property
    def is_reachable(self) -> bool:
        """Never."""
        return False

    @property
    def last_error(self) -> SourceUnreachableError:
        """Why it cannot be read, for the status."""
        return SourceUnreachableError(self._name, self.reason)

    def read_into(self, offset: int, buffers: Buffers) -> Future[None]:
        """Fail with SourceUnreachableError."""
        del offset, buffers
        future: Future[None] = get_running_loop().create_future()
        future.set_exception(self.last_error)
        return future

    async def close(self) -> None:
        """Nothing is open."""
