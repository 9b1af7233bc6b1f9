"""A volume: every procedure that a driver may start on it, in one place.

Rules the procedures keep are numbered in docs/rules.md and cited where
they are enforced: MAP in ``overwrite_map`` and ``committing``, INT in
``intent_log`` and ``writing``, RD in ``fetching`` and ``fetch_table``, MIR in
``writing``, ``committing`` and ``resync``, MRG in ``merge``, LOSS in ``reading``
and ``state``.

Each method returns a procedure; nothing happens until a driver runs it.
"""

from __future__ import annotations

from pyroaring import BitMap64

from . import committing, growing, losing, merge, reading, replacing, resync, verify, writing
from .buffer import Buffers
from .effects import Procedure
from .extent import Extent
from .gate import Gate
from .intent_log import recover_after_unclean_stop
from .mirroring import MirrorPolicy
from .state import VolumeState


class Volume:
    """Decides where each byte lives. Pure: the drivers do what it asks for."""

    def __init__(self, state: VolumeState) -> None:
        self.state = state

    def recover(self) -> None:
        """Mark what the zones still armed leave uncertain; to be called once, when opened.

        The backup may hold writes to those zones that it has not flushed: a region in doubt that
        is fetched from it comes to be stale if it forgets them (MIR-2).
        """
        state = self.state
        recover_after_unclean_stop(state.intent.armed, state.overwrite_map, state.geometry)
        for zone in state.intent.armed:
            state.note_unflushed(BitMap64(state.geometry.regions_of_zone(zone)), epoch=0)

    def is_current(self, extent: Extent) -> bool:
        """Return whether all of *extent* may be read from the primary just now."""
        state = self.state
        return state.overwrite_map.is_current(state.geometry.regions(extent))

    def read(
        self, extent: Extent, buffers: Buffers, *, patience: Gate | None = None
    ) -> Procedure[None]:
        """Fill *buffers* with *extent*. See ``reading.read``."""
        return reading.read(self.state, extent, buffers, patience=patience)

    def write(self, extent: Extent, buffers: Buffers, *, fua: bool = False) -> Procedure[None]:
        """Write *buffers* at *extent*. See ``writing.write``."""
        return writing.write(self.state, extent, buffers, fua=fua)

    def zero(self, extent: Extent, *, fua: bool = False) -> Procedure[None]:
        """Make *extent* zeros: UNMAP, and WRITE SAME of zeros. See ``writing.zero``."""
        return writing.zero(self.state, extent, fua=fua)

    def write_same(self, extent: Extent, block: Buffers, *, fua: bool = False) -> Procedure[None]:
        """Repeat *block* over *extent*. See ``writing.write_same``."""
        return writing.write_same(self.state, extent, block, fua=fua)

    def compare_and_write(
        self, extent: Extent, buffers: Buffers, *, fua: bool = False
    ) -> Procedure[None]:
        """Write if *extent* holds what is expected. See ``writing.compare_and_write``."""
        return writing.compare_and_write(self.state, extent, buffers, fua=fua)

    def flush(self) -> Procedure[None]:
        """Make all completed writes durable. See ``committing.commit``."""
        return committing.commit(self.state)

    def checkpoint(self) -> Procedure[None]:
        """Flush, commit, and disarm idle zones. See ``committing.checkpoint``."""
        return committing.checkpoint(self.state)

    def merge_step(self, step: merge.MergeStep) -> Procedure[None]:
        """Merge one step. See ``merge.merge_step``."""
        return merge.merge_step(self.state, step)

    def resync_step(self, extent: Extent) -> Procedure[None]:
        """Resync one step. See ``resync.resync_step``."""
        return resync.resync_step(self.state, extent)

    def verify_step(
        self, extent: Extent, repair: verify.Repair, differing: BitMap64
    ) -> Procedure[None]:
        """Compare both sides. See ``verify.verify_step``."""
        return verify.verify_step(self.state, extent, repair, differing)

    def backup_epoch_began(self, epoch: int) -> None:
        """What the backup acknowledged before *epoch* and had not flushed becomes stale (MIR-2)."""
        self.state.begin_epoch(epoch)

    def declare_lost(self, extent: Extent) -> Procedure[None]:
        """The primary's copy of *extent* is gone. See ``losing.declare_lost``."""
        return losing.declare_lost(self.state, extent)

    def accept_outdated(self, extent: Extent) -> Procedure[None]:
        """The backup's older bytes of *extent* count. See ``losing.accept_outdated``."""
        return losing.accept_outdated(self.state, extent)

    def replace_primary(self, *, same_disk: bool) -> Procedure[None]:
        """Take the offered disk. See ``replacing.replace_primary``."""
        return replacing.replace_primary(self.state, same_disk=same_disk)

    def prepare_snapshot(self) -> Procedure[None]:
        """Let the next snapshot fill what is in doubt. See ``replacing.prepare_snapshot``."""
        return replacing.prepare_snapshot(self.state)

    def grow(self, size: int) -> Procedure[None]:
        """Take *size* bytes from now on. See ``growing.grow``."""
        return growing.grow(self.state, size)

    def set_policy(self, policy: MirrorPolicy) -> Procedure[None]:
        """Let writes wait for something else from now on. See ``replacing.set_policy``."""
        return replacing.set_policy(self.state, policy)
