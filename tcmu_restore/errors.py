"""Every exception of the package, in one hierarchy.

The class says whose fault it is, the attributes say what, and ``str()`` is one
sentence for a person. Three edges translate these classes into their own
language with one table each: ``handler.scsi_status`` (SCSI), ``service.errors``
(D-Bus) and ``cli.exit_status``; a test walks every leaf and fails if a table
lacks it.

A message may hold a path, a size or an IQN, never a secret. What a peer or a disk said may be in it,
so nothing in it can be obeyed by a terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from .text import printable

SENTENCE_LENGTH_MAX: Final = 3000
"""Characters: several paths of a usual length; what is longer was meant to fill a log."""


@dataclass(eq=False)
class RestoreError(Exception):
    """Base of everything this package raises on purpose."""

    template: ClassVar[str] = "Something went wrong."
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        text = printable(self.template.format_map(vars(self)))
        return text if len(text) <= SENTENCE_LENGTH_MAX else f"{text[:SENTENCE_LENGTH_MAX]}…"


# --- what the admin typed or configured ---------------------------------------------------


class UserError(RestoreError):
    """The request cannot be carried out as it stands; nothing was changed."""


@dataclass(eq=False)
class UnknownVolumeError(UserError):
    """No definition file of that name."""

    volume: str
    template = (
        "There is no volume {volume!r}; nothing was changed. List them with: tcmu-restore list"
    )


@dataclass(eq=False)
class VolumeExistsError(UserError):
    """A definition or state file of that name is there already."""

    volume: str
    template = "The volume {volume!r} exists already; nothing was changed. Choose another name or delete it first."


@dataclass(eq=False)
class VolumeInUseError(UserError):
    """The volume is open, so it cannot be deleted or opened a second time."""

    volume: str
    template = (
        "The volume {volume!r} is in use; nothing was changed. Delete its LIO backstore first."
    )


@dataclass(eq=False)
class VolumeNotOpenError(UserError):
    """The volume is defined, but no LIO backstore has opened it."""

    volume: str
    template = "The volume {volume!r} is not being served; nothing was changed. Create its backstore with: targetcli /backstores/user:restore create"


@dataclass(eq=False)
class BadNameError(UserError):
    """A volume name outside [A-Za-z0-9_-], or longer than the limit."""

    name: str
    length_max: int
    template = "{name!r} is not a volume name: use 1 to {length_max} letters, digits, '-' or '_'. Nothing was changed."


@dataclass(eq=False)
class BadDefinitionError(UserError):
    """A volume's TOML file cannot be used."""

    path: str
    reason: str
    template = "The volume definition {path} cannot be used: {reason}. Nothing was changed."


@dataclass(eq=False)
class BadUrlError(UserError):
    """An iSCSI URL that names no LUN, or is malformed."""

    url: str
    reason: str
    template = "{url!r} is not an iSCSI LUN: {reason}. Expected iscsi://HOST[:PORT]/IQN/LUN. Nothing was changed."


@dataclass(eq=False)
class BadSettingError(UserError):
    """An option has a value that it cannot have."""

    setting: str
    value: str
    reason: str
    template = "{setting}={value} cannot be used: {reason}. Nothing was changed."


@dataclass(eq=False)
class PrimaryTooSmallError(UserError):
    """The local disk cannot hold the volume."""

    primary: str
    size: int
    needed: int
    template = "The disk {primary} has {size} bytes, but the volume needs {needed}. Nothing was changed; use a larger disk."


@dataclass(eq=False)
class PrimaryInUseError(UserError):
    """The local disk is mounted, or something else holds it."""

    primary: str
    reason: str
    template = "The disk {primary} is in use ({reason}). Nothing was changed; free it or name another disk."


@dataclass(eq=False)
class PrimaryUnusableError(UserError):
    """The local disk cannot be opened, or is neither a block device nor a file."""

    primary: str
    reason: str
    template = "The disk {primary} cannot be used: {reason}. Nothing was changed."


@dataclass(eq=False)
class SizeMismatchError(UserError):
    """Two things that must have one size have two."""

    what: str
    size: int
    expected: int
    template = "{what} has {size} bytes where {expected} were expected. Nothing was changed."


@dataclass(eq=False)
class BlockSizeMismatchError(UserError):
    """Two things that must have one logical block size have two."""

    what: str
    block_size: int
    expected: int
    template = "{what} has blocks of {block_size} bytes where {expected} were expected. Nothing was changed."


@dataclass(eq=False)
class IdentityMismatchError(UserError):
    """A source is not the one whose identity was recorded."""

    what: str
    identity: str
    expected: str
    template = (
        "{what} is {identity}, but {expected} was recorded. It was not used; nothing was changed."
    )


@dataclass(eq=False)
class SnapshotIsBackupError(UserError):
    """The live backup was offered as its own static snapshot."""

    snapshot: str
    template = "{snapshot} is the live backup itself, not a snapshot of it. Nothing was changed; attach a static snapshot."


@dataclass(eq=False)
class BadImageError(UserError):
    """A directory that holds no usable exported snapshot."""

    path: str
    reason: str
    template = "The snapshot in {path} cannot be used: {reason}. Nothing was changed."


@dataclass(eq=False)
class ExportRefusedError(UserError):
    """A snapshot cannot be exported to this directory."""

    directory: str
    reason: str
    template = "Cannot export to {directory}: {reason}. Nothing was changed."


@dataclass(eq=False)
class WrongStateError(UserError):
    """The verb does not fit what the volume is doing."""

    volume: str
    verb: str
    reason: str
    template = "Cannot {verb} on {volume!r}: {reason}. Nothing was changed."


@dataclass(eq=False)
class LinkCommandError(RestoreError):
    """A command that brings a link up or takes it down did not do so. Trying again may help."""

    command: str
    reason: str
    outcome: str = "The link counts as up until it is taken down."
    template = "The link command {command} {reason}. {outcome}"


@dataclass(eq=False)
class StateNewerError(UserError):
    """The state file was written by a newer version of this program."""

    path: str
    version: int
    known: int
    template = "The state file {path} has schema version {version}, but this program knows only up to {known}. It was left untouched; upgrade tcmu-restore."


# --- devices and peers --------------------------------------------------------------------


@dataclass(eq=False)
class SourceError(RestoreError):
    """A device or a peer did not do what it was asked."""

    source: str
    reason: str
    template = "{source}: {reason}"


class SourceUnreachableError(SourceError):
    """The peer is gone or did not answer in time. Trying again may work."""

    template = "{source} cannot be reached: {reason}"
    retryable = True


class SourceBusyError(SourceError):
    """The peer is there but has no resources just now. Trying again may work."""

    template = "{source} is busy: {reason}"
    retryable = True


class SourceLoginError(SourceError):
    """The target refused the login: wrong CHAP secret, unknown IQN, or no access."""

    template = (
        "{source} refused the login: {reason}. Check the IQN, the ACL and the credentials file."
    )


class SourceReadError(SourceError):
    """The device could not read these bytes. Trying again won't help."""

    template = "{source} cannot be read: {reason}"


@dataclass(eq=False)
class BadExtentError(SourceReadError):
    """Exactly these bytes of an exported snapshot are damaged or missing; others may be fine."""

    offset: int
    length: int


class SourceWriteError(SourceError):
    """The device could not write these bytes. Trying again won't help."""

    template = "{source} cannot be written: {reason}"


class SourceFlushError(SourceError):
    """The device could not make written bytes durable; what it covered is not to be trusted."""

    template = "{source} cannot be flushed: {reason}"


# --- the backup host, as restore-from drives it --------------------------------------------


class BackupHostUnreachableError(SourceUnreachableError):
    """No connection, or it was lost; what was asked may have happened. Trying again may work."""

    template = "The backup host {source} cannot be reached: {reason}. Run the same command again when it can; whatever was done there already is found again."


class BackupHostRefusedError(SourceError):
    """The command there ended with an error, or targetd answered with one."""

    template = "The backup host {source} refused: {reason}"


class BadAnswerError(SourceError):
    """What the backup host answered is not an answer that can be used."""

    template = "The backup host {source} answered what cannot be used: {reason}. Nothing of it was used; look at the versions of tcmu-restore on both hosts."


@dataclass(eq=False)
class HostKeyUnknownError(UserError):
    """The host's SSH key is not in the known hosts files, or another one is."""

    host: str
    known_hosts: str
    template = "The SSH host key of {host} is not the one in {known_hosts}, or none is there; nothing was changed. Compare its fingerprint at that host's console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then log in once with ssh, which asks whether to add it."


@dataclass(eq=False)
class SshLoginError(UserError):
    """The host does not accept our key, or the key cannot be used."""

    host: str
    user: str
    reason: str
    template = "{user} cannot log in to {host}: {reason}. Nothing was changed; put the public key into authorized_keys of {user} there, and name the private one with --key."


@dataclass(eq=False)
class TargetdLoginError(UserError):
    """targetd does not accept the user and password."""

    host: str
    login: str
    template = "targetd at {host} does not accept the user and password in {login}; nothing was changed. They are those of /etc/target/targetd.yaml there."


@dataclass(eq=False)
class RemoteCommandMissingError(UserError):
    """The backup host does not have tcmu-restore, or one that is too old."""

    host: str
    reason: str
    template = "The backup host {host} cannot run tcmu-restore snapshot-create: {reason}. Nothing was changed; install this package there, too."


@dataclass(eq=False)
class OldSnapshotError(UserError):
    """A snapshot of that name is there, and nothing here says that it is ours."""

    host: str
    snapshot: str
    remove: str
    template = "The backup host {host} has a snapshot {snapshot} already, older than this restore; nothing was changed. If nobody needs it, remove it there with: {remove}"


@dataclass(eq=False)
class UnfinishedRestoreError(UserError):
    """A restore of this volume was begun with other settings, or is running now."""

    volume: str
    reason: str
    template = "A restore of {volume!r} is not finished: {reason}. Nothing was changed. Go on with: tcmu-restore restore-from {volume}, or remove it with: tcmu-restore restore-from {volume} --abort"


@dataclass(eq=False)
class RestoreRecordError(UserError):
    """The file that says how far a restore is cannot be read or written."""

    path: str
    reason: str
    template = "The restore's record {path} cannot be used: {reason}. Nothing was changed; if it is damaged, look with snapshot-list on the backup host for what is left there, then delete the file."


# --- our own state ------------------------------------------------------------------------


@dataclass(eq=False)
class StateCorruptError(RestoreError):
    """A state file that is not what this program wrote."""

    path: str
    reason: str
    template = "The state file {path} is damaged: {reason}. It was left untouched, and the volume was not opened. The way out is: tcmu-restore state rebuild"


@dataclass(eq=False)
class StateWriteError(RestoreError):
    """The state file could not be written; nothing that depended on it was acknowledged.

    Trying again may work: when its file system has room again.
    """

    path: str
    reason: str
    retryable = True
    template = "The state file {path} cannot be written: {reason}"


# --- what a SCSI command can end with ------------------------------------------------------


@dataclass(eq=False)
class LostRegionError(RestoreError):
    """No source can serve a lost region, and its deadline has passed (RD-1)."""

    offset: int
    length: int
    template = "The bytes {offset}+{length} are lost and no source could serve them in time."


@dataclass(eq=False)
class MiscompareError(RestoreError):
    """COMPARE AND WRITE found other data (SBC-4 5.3): *offset* is the first differing byte."""

    offset: int
    template = "The data differs at byte {offset}."


@dataclass(eq=False)
class OutOfRangeError(RestoreError):
    """A command beyond the end of the volume."""

    offset: int
    length: int
    size: int
    template = "The bytes {offset}+{length} lie beyond the end of the volume ({size})."


@dataclass(eq=False)
class FencedError(RestoreError):
    """An internal check failed, and the volume stopped rather than serve a wrong byte."""

    volume: str
    reason: str
    template = "The volume {volume!r} is fenced: {reason}. Its committed state was left alone; restart tcmu-runner and report this."


@dataclass(eq=False)
class ServiceUnavailableError(RestoreError):
    """The running handler does not answer on D-Bus."""

    reason: str
    template = "The tcmu-restore service does not answer ({reason}). Is tcmu-runner running with the handler installed? See: tcmu-restore install-handler"
