"""The one table from our exceptions to the statuses of tcmu-runner.

What each status is in SCSI stands in libtcmu.c of tcmu-runner (1.5.4: lines 1188-1304).
An exception that is not in the table never reads as success: it is a hardware error.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from .. import errors


class Status(IntEnum):
    """The values of libtcmu_common.h that a command can end with."""

    GOOD = 0
    BUSY = 3
    """SAM BUSY: initiators try again; Linux for about 180 s."""
    WRITE_ERROR = 4
    """MEDIUM ERROR, WRITE ERROR."""
    READ_ERROR = 5
    """MEDIUM ERROR, UNRECOVERED READ ERROR."""
    MISCOMPARE = 6
    """MISCOMPARE DURING VERIFY OPERATION; INFORMATION holds the first differing byte."""
    HARDWARE_ERROR = 13
    """HARDWARE ERROR, INTERNAL TARGET FAILURE."""
    OUT_OF_RANGE = 14
    """ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE."""


_TABLE: Final[dict[type[BaseException], Status]] = {
    errors.SourceUnreachableError: Status.BUSY,
    errors.SourceBusyError: Status.BUSY,
    errors.LostRegionError: Status.READ_ERROR,
    errors.SourceReadError: Status.READ_ERROR,
    errors.SourceWriteError: Status.WRITE_ERROR,
    errors.SourceFlushError: Status.WRITE_ERROR,
    errors.StateWriteError: Status.BUSY,
    errors.MiscompareError: Status.MISCOMPARE,
    errors.OutOfRangeError: Status.OUT_OF_RANGE,
    # none of these should reach a command; where one does, retrying does not help
    errors.SourceLoginError: Status.HARDWARE_ERROR,
    errors.BackupHostRefusedError: Status.HARDWARE_ERROR,
    errors.BadAnswerError: Status.HARDWARE_ERROR,
    errors.StateCorruptError: Status.HARDWARE_ERROR,
    errors.FencedError: Status.HARDWARE_ERROR,
    errors.LinkCommandError: Status.HARDWARE_ERROR,
    errors.ServiceUnavailableError: Status.HARDWARE_ERROR,
    errors.UserError: Status.HARDWARE_ERROR,
}


def is_known(kind: type[BaseException]) -> bool:
    """Return whether the table says something about *kind* or a base of it."""
    return any(base in _TABLE for base in kind.__mro__)


def status_of(error: BaseException | None) -> Status:
    """Return what a command ends with; only None is GOOD."""
    if error is None:
        return Status.GOOD
    for kind in type(error).__mro__:
        status = _TABLE.get(kind)
        if status is not None:
            return status
    return Status.HARDWARE_ERROR


def information_of(error: BaseException | None) -> int:
    """Return the INFORMATION field of the sense data: a byte offset, or 0."""
    return error.offset if isinstance(error, errors.MiscompareError) else 0
