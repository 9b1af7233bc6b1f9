"""Exit statuses: the one table from an error to the status that a script sees.

====  =====================================================================================
0     done
1     anything else; also a merge that failed while it was waited for, missing permission, and a
      question that was not answered with yes
2     the command line, a name or a setting is wrong; nothing was changed
3     the service (or the bus) does not answer
4     a disk or a peer cannot be reached, read or written; on the backup host: LVM or LIO refuses,
      or there is no space for a snapshot
5     the volume's state, or its state file, does not allow it; likewise a snapshot's
====  =====================================================================================

130 is what every shell shows for Ctrl-C; with ``--wait`` the merge itself goes on. 143 is what it
shows for SIGTERM.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from .. import errors
from ..service.errors import error_class
from ..snapshots import errors as snapshot_errors
from .errors import (
    BackstoreError,
    HandoverError,
    LioError,
    MergeEndedError,
    MetricsError,
    NoRtslibError,
    NotConfirmedError,
    NothingSavedError,
    PictureError,
    ReplyError,
    SavedConfigError,
)


class ExitStatus(IntEnum):
    """What the process ends with; see the module's table."""

    DONE = 0
    OTHER = 1
    USAGE = 2
    UNAVAILABLE = 3
    SOURCE = 4
    STATE = 5
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_STATUS: Final[Mapping[type[Exception], ExitStatus]] = {
    errors.UserError: ExitStatus.USAGE,
    errors.VolumeInUseError: ExitStatus.STATE,
    errors.VolumeNotOpenError: ExitStatus.STATE,
    errors.WrongStateError: ExitStatus.STATE,
    errors.StateNewerError: ExitStatus.STATE,
    errors.SourceError: ExitStatus.SOURCE,
    errors.StateCorruptError: ExitStatus.STATE,
    errors.StateWriteError: ExitStatus.STATE,
    errors.FencedError: ExitStatus.STATE,
    errors.LinkCommandError: ExitStatus.SOURCE,
    errors.LostRegionError: ExitStatus.SOURCE,
    errors.MiscompareError: ExitStatus.OTHER,
    errors.OutOfRangeError: ExitStatus.USAGE,
    errors.ServiceUnavailableError: ExitStatus.UNAVAILABLE,
    BackstoreError: ExitStatus.OTHER,
    HandoverError: ExitStatus.STATE,
    LioError: ExitStatus.OTHER,
    MergeEndedError: ExitStatus.OTHER,
    MetricsError: ExitStatus.OTHER,
    NoRtslibError: ExitStatus.OTHER,
    NotConfirmedError: ExitStatus.OTHER,
    NothingSavedError: ExitStatus.STATE,
    PictureError: ExitStatus.OTHER,
    snapshot_errors.LioUnavailableError: ExitStatus.OTHER,
    snapshot_errors.SnapshotBrokenError: ExitStatus.STATE,
    snapshot_errors.SnapshotCommandError: ExitStatus.SOURCE,
    snapshot_errors.SnapshotExistsError: ExitStatus.STATE,
    snapshot_errors.SnapshotRecordError: ExitStatus.STATE,
    snapshot_errors.SnapshotSpaceError: ExitStatus.SOURCE,
    SavedConfigError: ExitStatus.OTHER,
}
"""A class stands for its subclasses; the nearest entry counts."""


def exit_status(error: Exception) -> ExitStatus:
    """Return the status for *error*; an error that the service answered counts as its class."""
    cls: type[Exception] | None = type(error)
    if isinstance(error, ReplyError):
        cls = error_class(error.error_name)
    for base in cls.__mro__ if cls else ():
        if base in EXIT_STATUS:
            return EXIT_STATUS[base]
    return ExitStatus.OTHER
