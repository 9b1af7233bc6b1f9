"""The disks of one machine: which are plugged in, and what their files go through.

It starts no QEMU and talks to none. Files are kept over removal, reboots and power cuts; only the
end of the lab removes them.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

from vagrant.disk import Disk
from vagrant.volatile_disk import VolatileDisk


class DiskBay:
    """The disks that a machine has, by name."""

    def __init__(self, machine: str, folder: Path) -> None:
        self._machine = machine
        self._folder = folder
        self._plugged: dict[str, Disk] = {}
        self._volatile: dict[str, VolatileDisk] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._plugged

    def __getitem__(self, name: str) -> Disk:
        return self._plugged[name]

    @property
    def plugged(self) -> list[Disk]:
        """The disks that the machine sees, in the order they were plugged in."""
        return list(self._plugged.values())

    def volatile(self, name: str) -> VolatileDisk:
        """Return the store behind a volatile disk, to fail it or to cut its power."""
        return self._volatile[name]

    def add(
        self, name: str, size: int, *, honour_flush: bool, volatile: bool, is_usb: bool = False
    ) -> Disk:
        """Take a disk in; one that was removed before comes back with its content."""
        assert name not in self._plugged, f"{self._machine} has a disk {name}"
        path = self._folder / f"{name}.raw"
        socket = self._folder / f"{name}.nbd" if volatile else None
        disk = Disk(name, size, path, honour_flush, socket, is_usb)
        if socket is None:
            disk.create_file()
        elif name not in self._volatile:
            seed = zlib.crc32(f"{self._machine}/{name}".encode())
            self._volatile[name] = VolatileDisk(path, size, socket=socket, seed=seed)
        self._plugged[name] = disk
        return disk

    def grow(self, name: str, size: int) -> Disk:
        """Note that a disk has *size* bytes now; for a disk with a file of its own."""
        assert name not in self._volatile, f"{name} is volatile"
        assert size > self._plugged[name].size
        self._plugged[name] = replace(self._plugged[name], size=size)
        return self._plugged[name]

    def remove(self, name: str) -> Disk:
        """Take a disk out. A volatile one loses power."""
        disk = self._plugged.pop(name)
        if name in self._volatile:
            self._volatile[name].power_cut()
        return disk

    def give(self, name: str, other: DiskBay) -> None:
        """Let another machine have the file of a disk that was taken out."""
        assert name not in self._plugged, f"{name} is plugged in"
        (self._folder / f"{name}.raw").rename(other._folder / f"{name}.raw")

    def discard(self, name: str) -> None:
        """Throw a disk that was taken out away, with its content; it need not exist."""
        assert name not in self._plugged, f"{name} is plugged in"
        volatile = self._volatile.pop(name, None)
        if volatile is not None:
            volatile.close()
        for suffix in ("raw", "seen", "nbd"):
            (self._folder / f"{name}.{suffix}").unlink(missing_ok=True)

    def power_cut(self) -> None:
        """All volatile disks that are plugged in lose power."""
        for name in self._plugged:
            if name in self._volatile:
                self._volatile[name].power_cut()

    def close(self) -> None:
        """End the servers of the volatile disks."""
        for disk in self._volatile.values():
            disk.close()
        self._volatile.clear()
