"""A volume that grows while it is in use, after its backup and its primary have grown.

GROW-1: the new area is lost, and neither in doubt nor stale: no write to it was ever acknowledged,
so the backup's bytes are the truth there, and a snapshot of the grown backup may fill it. A last
region that was shorter than the others keeps its kind: its new bytes are copied from the backup and
flushed first (MAP-1), also if it is lost, for the last commit may call it current, and the disk may
keep it. What is being fetched of it lacks them, and populates nothing.
GROW-2: the new size is durable before any command beyond the old one is taken.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import RestoreError, WrongStateError
from .buffer import buffers_of
from .effects import CommitSize, Flush, Leg, Lock, Read, Write
from .extent import Extent
from .extent_lock import COMMIT
from .geometry import Geometry
from .state import VolumeState


async def grow(state: VolumeState, size: int) -> None:
    """Give the volume *size* bytes; durable on return. Holds everything up for one commit.

    The caller has seen that both stores hold so many bytes.

    Raises:
        WrongStateError: the volume is diskless, or does not become larger.
        SourceError: the rest of the last region could not be copied. StateWriteError. In each case
            the volume has its old size; trying again may help.
    """
    await Lock(state.geometry.whole)
    await Lock(COMMIT)
    grown = replace(state.geometry, size=size)
    if size <= state.geometry.size:
        raise WrongStateError("the volume", "resize", f"it has {state.geometry.size} bytes already")
    if state.is_diskless:
        raise WrongStateError("the volume", "resize", "its primary is failed; replace it first")
    rest = plan_rest(state.geometry, grown)
    if rest is not None:
        await _copy_rest(state, rest)
    await CommitSize(size)
    if rest is not None:  # fetches have no lock, may have begun a moment ago, and lack the rest
        state.fetches.spoil(grown.align_out(rest))
    state.grow(grown)


def plan_rest(before: Geometry, after: Geometry) -> Extent | None:
    """Return the bytes that the last region of *before* lacks and has in *after*, or None."""
    end = min(before.region_count * before.region_size, after.size)
    return Extent(before.size, end - before.size) if end > before.size else None


async def _copy_rest(state: VolumeState, rest: Extent) -> None:
    memory = buffers_of(bytearray(rest.length))
    await Read(Leg.BACKUP, rest, memory)
    try:
        await Write(Leg.PRIMARY, rest, memory)
        await Flush(Leg.PRIMARY)
    except RestoreError as error:
        state.fail_primary(error)  # LOSS-2
        raise
