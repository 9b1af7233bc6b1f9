"""A machine's extra disk: a sparse file on the host, in QEMU's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")


@dataclass(frozen=True)
class Disk:
    """A disk that a machine sees as `guest_path`.

    With `honour_flush` a flush of the machine is an fdatasync on the host; without it flushes cost
    nothing. A power cut of the machine keeps all it had written either way, because the host's page
    cache survives. With `is_usb` it is a stick, for a machine with USB. With `socket` the disk is a
    VolatileDisk, which forgets what was not flushed.
    """

    name: str
    size: int
    path: Path
    honour_flush: bool = False
    socket: Path | None = None
    is_usb: bool = False

    def __post_init__(self) -> None:
        assert _NAME.fullmatch(self.name), f"not a disk name: {self.name}"
        assert self.size > 0
        assert self.size % 512 == 0

    def create_file(self) -> None:
        """Make the file, sparse, unless it is there."""
        with self.path.open("ab") as file:
            file.truncate(self.size)

    @property
    def guest_path(self) -> str:
        """Where the machine has it."""
        if self.is_usb:
            return f"/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{self.name}-0:0"
        return f"/dev/disk/by-id/virtio-{self.name}"

    def block_node(self) -> dict[str, object]:
        """The arguments of blockdev-add."""
        if self.socket is not None:
            return {
                "driver": "nbd",
                "node-name": f"node-{self.name}",
                "cache": {"direct": False, "no-flush": False},
                "discard": "unmap",
                "server": {"type": "unix", "path": str(self.socket)},
            }
        return {
            "driver": "raw",
            "node-name": f"node-{self.name}",
            "cache": {"direct": False, "no-flush": not self.honour_flush},
            "discard": "unmap",
            "file": {"driver": "file", "filename": str(self.path), "discard": "unmap"},
        }

    def device(self) -> dict[str, object]:
        """The arguments of device_add."""
        if self.is_usb:
            return {
                "driver": "usb-storage",
                "id": f"disk-{self.name}",
                "drive": f"node-{self.name}",
                "serial": self.name,
                "bus": "usb.0",
            }
        return {
            "driver": "virtio-blk-pci",
            "id": f"disk-{self.name}",
            "drive": f"node-{self.name}",
            "serial": self.name,
        }
