"""What takes snapshots of one kind of storage. A new kind is one class, listed in ``choice``.

A provider holds no state: everything it needs later is in the device's path, which is recorded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from .backing import Backing
from .command import Run


class SnapshotProvider(ABC):
    """Takes, examines and removes snapshots of one kind of storage. Every method may block."""

    name: ClassVar[str]
    """What ``--provider`` and the records call it."""

    plugin: ClassVar[str]
    """The LIO backstore that serves its snapshots: ``block`` or ``fileio``."""

    takes_size: ClassVar[bool] = False
    """Whether a snapshot has an area of its own, whose size may be chosen."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @abstractmethod
    def fits(self, backing: Backing) -> bool:
        """Return whether it can take a snapshot of this kind of storage."""

    @abstractmethod
    def place(self, backing: Backing, snapshot: str) -> str:
        """Return the path that the snapshot named *snapshot* will have. Changes nothing."""

    @abstractmethod
    def check(self, backing: Backing, device: str, size: int | None) -> None:
        """Raise if the snapshot cannot be taken. Changes nothing.

        Raises:
            SnapshotSpaceError: there is no space. NoProviderError: something is in its way.
        """

    @abstractmethod
    def take(self, backing: Backing, device: str, size: int | None) -> None:
        """Take the snapshot: atomic for every write of an initiator, durable, at *device*.

        Raises:
            SnapshotSpaceError, NoProviderError, SnapshotCommandError: nothing was changed.
        """

    @abstractmethod
    def find_fault(self, device: str) -> str | None:
        """Return what is wrong with a snapshot that was taken, or None if it can be read."""

    @abstractmethod
    def remove(self, device: str) -> None:
        """Remove the snapshot if it is there. Raises SnapshotCommandError; trying again helps."""

    def activate(self, device: str) -> None:
        """Make *device* appear, after a reboot. Raises SnapshotCommandError."""
        del device
