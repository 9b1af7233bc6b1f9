"""What only the backup host's commands can meet: the package's hierarchy goes on here.

The handler and the service never see these, so their tables need not know them; ``cli.exit_status``
does.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RestoreError, UserError


@dataclass(eq=False)
class UnknownOriginError(UserError):
    """LIO has no such storage object, or it is not of a kind that has snapshots."""

    origin: str
    template = "LIO has no storage object {origin!r} of the kind block/NAME or fileio/NAME; nothing was changed. List them with: targetcli ls /backstores"


@dataclass(eq=False)
class OriginNotExportedError(UserError):
    """No iSCSI target exports the origin, so nobody is known who may see its snapshot."""

    origin: str
    template = "No iSCSI target with a portal exports {origin!r}, so nobody may see its snapshot either. Nothing was changed; export it first."


@dataclass(eq=False)
class NoProviderError(UserError):
    """No snapshot can be taken of what the origin lies on."""

    origin: str
    reason: str
    template = "No snapshot can be taken of {origin!r}: {reason}. Nothing was changed."


@dataclass(eq=False)
class SnapshotSpaceError(UserError):
    """There is no space for a snapshot, or not enough for what hosts write after it."""

    origin: str
    reason: str
    template = "There is no space for a snapshot of {origin!r}: {reason}. Nothing was changed."


@dataclass(eq=False)
class SnapshotExistsError(UserError):
    """There is another snapshot of that name."""

    snapshot: str
    reason: str
    template = "There is a snapshot {snapshot!r} already, {reason}. Nothing was changed; choose another name, or remove it with: tcmu-restore snapshot-delete {snapshot}"


@dataclass(eq=False)
class SnapshotBrokenError(UserError):
    """The snapshot's device is gone or has lost its content."""

    snapshot: str
    reason: str
    template = "The snapshot {snapshot!r} is broken: {reason}. Nothing was changed; remove it with: tcmu-restore snapshot-delete {snapshot}"


@dataclass(eq=False)
class TargetExistsError(UserError):
    """The snapshot's target would be one that is there already."""

    target: str
    template = (
        "There is a target {target} already. Nothing was changed; name another one with --target."
    )


@dataclass(eq=False)
class SnapshotCommandError(RestoreError):
    """LVM or LIO refused a step. The same command again goes on where it was."""

    step: str
    reason: str
    template = "{step} failed: {reason}. What there is now is shown by: tcmu-restore snapshot-list"


@dataclass(eq=False)
class SnapshotRecordError(RestoreError):
    """The record of a snapshot cannot be read or written."""

    path: str
    reason: str
    template = "The snapshot record {path} cannot be used: {reason}. It was left as it is; look at the file, or remove it and then what snapshot-list shows."


@dataclass(eq=False)
class LioUnavailableError(RestoreError):
    """This host's LIO cannot be driven by this process."""

    reason: str
    template = "LIO cannot be used: {reason}. Nothing was changed."
