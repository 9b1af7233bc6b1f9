"""Snapshots of logical volumes: thin ones, and classic ones with an area of their own.

LVM suspends the origin while it takes a snapshot: commands in flight are completed before it, later
ones wait.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Final

from ..units import MiB, format_size
from .backing import Backing
from .errors import NoProviderError, SnapshotSpaceError
from .lvm import Lv, Lvm
from .provider import SnapshotProvider

POOL_DATA_PERCENT_MAX: Final = 95.0
"""A pool that runs full stops the live backup too, so there must be room for its writes."""

POOL_METADATA_PERCENT_MAX: Final = 90.0
"""A pool whose metadata runs full must be repaired off-line."""

AREA_SHARE_PERCENT: Final = 20
"""A classic snapshot's area in percent of its origin: it overflows when more than that of the
origin is written anew, which takes most hosts days."""

AREA_MIN: Final = 4 * MiB
"""Below an extent there is nothing to give."""


class LvmProvider(SnapshotProvider):
    """What thin and classic snapshots have in common."""

    plugin: ClassVar[str] = "block"

    def place(self, backing: Backing, snapshot: str) -> str:
        """Return /dev/VG/restore-NAME."""
        return f"/dev/{_lv(backing).vg}/restore-{snapshot}"

    def check(self, backing: Backing, device: str, size: int | None) -> None:
        """Raise if the name is taken, or there is no space."""
        if Lvm(self.run).by_device(device) is not None:
            raise NoProviderError(backing.origin, f"{device} exists already")
        self.check_space(backing, _lv(backing), size)

    @abstractmethod
    def check_space(self, backing: Backing, lv: Lv, size: int | None) -> None:
        """Raise SnapshotSpaceError unless there is space."""

    def find_fault(self, device: str) -> str | None:
        """Return what is wrong: it is gone, or its area has overflowed."""
        found = Lvm(self.run).by_device(device)
        if found is None:
            return f"{device} is gone"
        if found.is_invalid:
            return f"the area of {device} is full, so it lost its content"
        return None

    def activate(self, device: str) -> None:
        """Activate the volume if it is not."""
        lvm = Lvm(self.run)
        found = lvm.by_device(device)
        if found is not None and not found.is_active:
            lvm.activate(found)

    def remove(self, device: str) -> None:
        """Remove the volume, if it is there and was made here."""
        lvm = Lvm(self.run)
        found = lvm.by_device(device)
        if found is not None:
            lvm.remove(found)


class ThinProvider(LvmProvider):
    """Volumes in a thin pool: at once, and blocks are taken from the pool when they differ."""

    name: ClassVar[str] = "lvm-thin"

    def fits(self, backing: Backing) -> bool:
        """Return whether it lies in a thin pool."""
        return backing.lv is not None and backing.lv.is_thin

    def check_space(self, backing: Backing, lv: Lv, size: int | None) -> None:
        """Raise if the pool is about to run full."""
        del size
        pool = Lvm(self.run).by_name(lv.vg, lv.pool)
        if pool is None:
            raise NoProviderError(backing.origin, f"its thin pool {lv.vg}/{lv.pool} is gone")
        for what, percent, limit in (
            ("data", pool.data_percent, POOL_DATA_PERCENT_MAX),
            ("metadata", pool.metadata_percent, POOL_METADATA_PERCENT_MAX),
        ):
            if percent is not None and percent >= limit:
                reason = (
                    f"the {what} of the thin pool {pool.full_name} is {percent:g} % full, "
                    f"the limit is {limit:g} %; extend it with lvextend"
                )
                raise SnapshotSpaceError(backing.origin, reason)

    def take(self, backing: Backing, device: str, size: int | None) -> None:
        """Take a thin snapshot."""
        del size
        Lvm(self.run).create_snapshot(_lv(backing), device.rsplit("/", 1)[1])


class ClassicProvider(LvmProvider):
    """Any other volume: what the origin held before a write is copied to an area first."""

    name: ClassVar[str] = "lvm"
    takes_size: ClassVar[bool] = True

    def fits(self, backing: Backing) -> bool:
        """Return whether it is a volume, and not such a snapshot itself."""
        return backing.lv is not None and not backing.lv.is_classic_snapshot

    def check_space(self, backing: Backing, lv: Lv, size: int | None) -> None:
        """Raise if the volume group has not enough free space for the area."""
        wanted = _area(lv, size)
        if lv.vg_free < wanted:
            reason = (
                f"its area takes {format_size(wanted)}, but the volume group {lv.vg} has only "
                f"{format_size(lv.vg_free)} free; choose less with --size, or extend the group"
            )
            raise SnapshotSpaceError(backing.origin, reason)

    def take(self, backing: Backing, device: str, size: int | None) -> None:
        """Take a snapshot with an area of *size* bytes, which LVM rounds up to extents."""
        lv = _lv(backing)
        name = device.rsplit("/", 1)[1]
        Lvm(self.run).create_snapshot(lv, name, size=_area(lv, size))


def _area(lv: Lv, size: int | None) -> int:
    if size is not None:
        return size
    share = lv.size * AREA_SHARE_PERCENT // 100
    return max(AREA_MIN, -(-share // 512) * 512)  # LVM wants whole sectors


def _lv(backing: Backing) -> Lv:
    assert backing.lv is not None, "fits() was not asked"
    return backing.lv
