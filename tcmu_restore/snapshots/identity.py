"""The unit serial number of an exported snapshot: its own, and it says whose snapshot it is.

An initiator takes two LUNs of one serial number for two paths to one disk, so a snapshot must have
another one than its origin. The origin's is appended: the primary can tell a snapshot of its backup
from a foreign one by asking the LUN itself, whatever the backup host's records say.
"""

from __future__ import annotations

import uuid
from typing import Final

_MARK: Final = "-snapshot-of-"

ORIGIN_LENGTH_MAX: Final = 128
"""Characters of the origin's serial number. The whole is repeated in a designator of VPD page 0x83
of at most 255 bytes; LIO's own serial numbers have 36 characters."""


def make_serial(origin_serial: str) -> str:
    """Return a new serial number for a snapshot of the LUN with *origin_serial*.

    LIO makes the NAA name of the first 25 hexadecimal digits, which are the new ones.
    """
    return f"{uuid.uuid4()}{_MARK}{origin_serial[:ORIGIN_LENGTH_MAX]}"


def origin_of_serial(text: str) -> str | None:
    """Return the origin's serial number, or None if *text* is not of a snapshot made here.

    *text* may also be a whole identity that ends with the serial number.
    """
    _, mark, origin = text.partition(_MARK)
    return origin if mark and origin else None


def is_snapshot_of(identity: str, backup_identity: str) -> bool | None:
    """Return whether a LUN says that it is a snapshot of the backup; None if it says nothing.

    Both are identities as the primary records them, which end with ``/serial.`` and the serial.
    """
    origin = origin_of_serial(identity)
    _, mark, serial = backup_identity.partition("/serial.")
    if origin is None or not mark:
        return None
    return origin == serial[:ORIGIN_LENGTH_MAX]
