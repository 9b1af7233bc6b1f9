"""Everything a procedure may ask for.

A procedure is an ``async def`` that awaits effects and nothing else. An effect
yields itself to the driver, which performs it and sends the result back, or
throws a ``RestoreError``. Drivers match every class below and close the match
with ``assert_never``.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from ..errors import RestoreError
from .buffer import Buffers
from .extent import Extent
from .extent_lock import Held
from .gate import Gate
from .region_sets import MapImage

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
Procedure = Coroutine["Effect", Any, T]


class Leg(Enum):
    """Whose bytes: the three sources of a volume."""

    PRIMARY = "primary"
    BACKUP = "backup"
    SNAPSHOT = "snapshot"


class Awaitable(Generic[T_co]):
    """What makes an effect awaitable, with its result's type."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, T_co]:
        return (yield self)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Lock(Awaitable[Held]):
    """Hold *extent* alone. The driver releases it when the procedure ends, however it ends."""

    extent: Extent


@dataclass(frozen=True, slots=True)
class Wait(Awaitable[None]):
    """Go on when *gate* is open."""

    gate: Gate


@dataclass(frozen=True, slots=True)
class Spawn(Awaitable[None]):
    """Start *procedure* beside this one, with locks of its own. Its errors are its own affair."""

    procedure: Procedure[None]


@dataclass(frozen=True, slots=True)
class Read(Awaitable[None]):
    """Fill *buffers* from *leg*."""

    leg: Leg
    extent: Extent
    buffers: Buffers


@dataclass(frozen=True, slots=True)
class Write(Awaitable[int]):
    """Write *buffers* to *leg* (primary or backup); answers its durability epoch."""

    leg: Leg
    extent: Extent
    buffers: Buffers


@dataclass(frozen=True, slots=True)
class Zero(Awaitable[int]):
    """Make *extent* of *leg* (primary or backup) read as zeros; answers its durability epoch."""

    leg: Leg
    extent: Extent


@dataclass(frozen=True, slots=True)
class Flush(Awaitable[int]):
    """Make what *leg* (primary or backup) has acknowledged durable; answers its epoch."""

    leg: Leg


@dataclass(frozen=True, slots=True)
class FindZeros(Awaitable[list[Extent]]):
    """Tell which parts of *extent* the snapshot knows to be zero; moves no data."""

    extent: Extent


@dataclass(frozen=True, slots=True)
class CommitMap(Awaitable[None]):
    """Make a map image durable, and whether the primary is failed.

    Commits of all kinds take effect in the order they are asked.
    """

    image: MapImage
    diskless: bool


@dataclass(frozen=True, slots=True)
class AdoptPrimary(Awaitable[None]):
    """Make it durable that the offered disk is the primary, with *image*, and use it from now on.

    Nothing is in flight on the primary while this runs.
    """

    image: MapImage


@dataclass(frozen=True, slots=True)
class CommitSize(Awaitable[None]):
    """Make it durable that the volume has *size* bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class CommitIntent(Awaitable[None]):
    """Make the arming of some zones and the disarming of others durable."""

    armed: tuple[int, ...]
    disarmed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AllOf(Awaitable[tuple[Any, ...]]):
    """Perform all *effects* at once; go on when the last has ended.

    Answers one entry an effect, in order: its result, or the ``RestoreError`` it failed with.
    Only Read, Write, Zero, Flush and Wait may stand in it.
    """

    effects: tuple[Effect, ...]


Effect = (
    Lock
    | Wait
    | Spawn
    | Read
    | Write
    | Zero
    | Flush
    | FindZeros
    | CommitMap
    | CommitIntent
    | AdoptPrimary
    | CommitSize
    | AllOf
)


def first_error(results: tuple[Any, ...]) -> RestoreError | None:
    """Return the first failure among the results of AllOf, or None."""
    return next((result for result in results if isinstance(result, RestoreError)), None)
