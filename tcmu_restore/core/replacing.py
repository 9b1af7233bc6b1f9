"""What changes hands while the volume is in use: its primary, and the snapshot to be taken."""

from __future__ import annotations

from ..errors import WrongStateError
from .committing import commit
from .effects import AdoptPrimary, Flush, Leg, Lock
from .extent_lock import COMMIT
from .mirroring import MirrorPolicy
from .state import VolumeState


async def replace_primary(state: VolumeState, *, same_disk: bool) -> None:
    """Take the offered disk as the primary of a diskless volume; the restore starts.

    *same_disk*: it is the failed one, given back: what it had flushed and nobody has written since
    is current again, and what was outdated is stale. Any other disk holds nothing.

    Waits for what is in flight, and holds everything up for two commits.

    Raises:
        WrongStateError: the volume has a primary.
        StateWriteError: the volume stays diskless; trying again may help.
    """
    await Lock(state.geometry.whole)  # no write is in flight on either disk
    await Lock(COMMIT)
    if not state.is_diskless:
        raise WrongStateError("the volume", "replace the primary", "it is not failed")
    image = state.overwrite_map.take_adoption_image(same_disk=same_disk)
    try:
        await AdoptPrimary(image.with_outdated(state.backup_only))
    except BaseException:
        state.overwrite_map.commit_failed(image)
        raise
    state.adopt_primary(same_disk=same_disk)


async def prepare_snapshot(state: VolumeState) -> None:
    """From now on a new snapshot of the backup holds all that the backup holds; durable on return.

    To be run before the snapshot is taken, while none is attached: regions that were in doubt may
    then be filled from it. Holds writes up for one flush.

    Raises:
        SourceUnreachableError, SourceFlushError: the backup could not flush; nothing was changed.
        StateWriteError: it holds in memory, but is not durable yet.
    """
    await Lock(state.geometry.whole)
    await Flush(Leg.BACKUP)
    state.overwrite_map.mark_all_certain()
    await commit(state)


async def set_policy(state: VolumeState, policy: MirrorPolicy) -> None:
    """Let every write that begins from now on wait for what *policy* says.

    Waits for the writes in flight: none of them sees two policies. What is stale stays stale until
    the resync has sent it (MIR-3).
    """
    await Lock(state.geometry.whole)
    state.policy = policy
