"""What a restore needs of a backup host, however it is driven."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

Extents = tuple[tuple[int, int], ...]
"""Offsets and lengths in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """How to reach a backup host.

    *address* is a name or an address for SSH, or the http(s):// URL of targetd's API. Paths are
    local. *login* is the root-only file with targetd's user and password.
    """

    address: str
    user: str = "root"
    port: int | None = None
    key: str | None = None
    known_hosts: str | None = None
    login: str | None = None

    @property
    def is_targetd(self) -> bool:
        """Whether targetd is driven there, and not our own command."""
        return self.address.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequest:
    """The snapshot that is wanted.

    *origin* is a storage object of LIO there, ``block/NAME`` or ``fileio/NAME``; with targetd it
    is POOL/VOLUME. None of the others is required but for *snapshot*, the name of the new one.
    """

    snapshot: str
    origin: str
    target: str | None = None
    portal: str | None = None
    extents: Extents | None = None
    partition: int | None = None
    provider: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteSnapshot:
    """A snapshot that is exported: its iscsi:// URL, and all that it covers (None: everything)."""

    url: str
    extents: Extents | None


class BackupHost(ABC):
    """A backup host. Every method may block for minutes.

    Raises:
        BackupHostUnreachableError: trying again may work; what was asked may have happened.
        BackupHostRefusedError, BadAnswerError: see there; trying again won't help.
        UserError: the host cannot be used as it is set up.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The host, for messages."""

    @property
    @abstractmethod
    def addresses(self) -> frozenset[str]:
        """Numeric addresses that the host was reached at so far; its exports may be there."""

    @abstractmethod
    def find_origin(self, iqn: str, lun: int) -> str:
        """Return the origin that is exported as *lun* of *iqn* there."""

    @abstractmethod
    def has_snapshot(self, request: SnapshotRequest) -> bool:
        """Return whether a snapshot of that name is there."""

    @abstractmethod
    def create(self, request: SnapshotRequest) -> RemoteSnapshot:
        """Take the snapshot and export it; what is there of it already is kept and finished."""

    @abstractmethod
    def delete(self, request: SnapshotRequest) -> bool:
        """Remove the snapshot and its export; return False if it was not there."""

    @abstractmethod
    def remove_command(self, request: SnapshotRequest) -> str:
        """Return what a person does there to remove the snapshot."""
