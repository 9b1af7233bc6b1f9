"""What only a client can meet: the package's hierarchy goes on here.

The handler and the service never see these, so their tables need not know them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RestoreError, UserError


@dataclass(eq=False)
class ReplyError(RestoreError):
    """The service answered with an error; *message* is its sentence."""

    error_name: str
    message: str
    template = "{message}"


@dataclass(eq=False)
class BackstoreError(RestoreError):
    """LIO refused the backstore; *outcome* says what is left behind."""

    volume: str
    reason: str
    outcome: str
    template = "The LIO backstore of {volume!r} cannot be made: {reason}. {outcome}"


@dataclass(eq=False)
class LioError(RestoreError):
    """LIO, or rtslib, refused a part of a backstore's configuration."""

    what: str
    reason: str
    template = "LIO refused {what}: {reason}. What was there before was left alone."


@dataclass(eq=False)
class SavedConfigError(RestoreError):
    """The configuration that LIO is restored from cannot be read or written."""

    path: str
    reason: str
    template = "The saved LIO configuration {path} cannot be used: {reason}. It was left untouched."


@dataclass(eq=False)
class HandoverError(RestoreError):
    """A volume cannot be handed over; *outcome* says what is left behind."""

    volume: str
    reason: str
    outcome: str
    template = "{volume!r} cannot be handed over: {reason}. {outcome}"


@dataclass(eq=False)
class NothingSavedError(RestoreError):
    """No saved configuration knows a volume's backstore."""

    volume: str
    template = (
        "No saved LIO configuration has a backstore of {volume!r}; nothing was changed. "
        "Make one with: targetcli /backstores/user:restore create"
    )


@dataclass(eq=False)
class NoRtslibError(RestoreError):
    """rtslib is not importable, and the verb cannot do without."""

    verb: str
    template = (
        "{verb} needs rtslib, which this Python does not have; nothing was changed. "
        "Install the distribution's package python3-rtslib-fb."
    )


@dataclass(eq=False)
class NotConfirmedError(RestoreError):
    """A person, or a script without ``--yes``, did not agree to what a verb would do."""

    verb: str
    template = "{verb} was not confirmed; nothing was changed. In a script, add: --yes"


@dataclass(eq=False)
class NoBackupHostError(UserError):
    """There is no restore to go on with, and no host was named to begin one."""

    volume: str
    template = "There is no unfinished restore of {volume!r} to go on with; nothing was changed. Begin one with: tcmu-restore restore-from {volume} BACKUP_HOST"


@dataclass(eq=False)
class PictureError(RestoreError):
    """A picture cannot be drawn or written."""

    path: str
    reason: str
    template = "The picture {path} cannot be made: {reason}"


@dataclass(eq=False)
class MetricsError(RestoreError):
    """Metrics cannot be written to a file or offered at an address."""

    place: str
    reason: str
    template = "The metrics cannot be offered at {place}: {reason}"


@dataclass(eq=False)
class MergeEndedError(RestoreError):
    """A merge that was waited for ended before everything was merged."""

    volume: str
    state: str
    reason: str
    template = "The merge of {volume!r} ended before it was done ({state}): {reason}"
