"""Whether an export may use a directory: empty, or with an unfinished export of the same snapshot.

Nothing is ever deleted here: what lies on somebody's disk stays, and the export is refused.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from typing import Final

from ..errors import ExportRefusedError
from ..sources.image_directory import open_file, read_file
from ..sources.image_index import part_name
from ..sources.image_manifest import (
    INDEX_NAME,
    MANIFEST_LENGTH_MAX,
    MANIFEST_NAME,
    UNFINISHED_NAME,
    ImageHeader,
    encode_header,
    parse_header,
    parse_manifest,
)
from .durable import create_file

_EMPTY_IT: Final = "use an empty directory, or delete what is in it"


def claim(path: str, directory: int, header: ImageHeader) -> tuple[int, ImageHeader]:
    """Make the open *directory* this export's; return a lock and the header to go on with.

    The header is the one found where an export is unfinished: the time it was taken stays.

    Raises:
        ExportRefusedError: it holds something else, or another export runs. Nothing was changed.
        OSError: it cannot be read or written.
    """
    names = set(os.listdir(directory))
    if MANIFEST_NAME in names:
        raise ExportRefusedError(path, _finished(directory, header))
    if UNFINISHED_NAME not in names:
        if names & {INDEX_NAME, part_name(0)}:
            raise ExportRefusedError(path, f"it holds parts of some other export; {_EMPTY_IT}")
        create_file(directory, UNFINISHED_NAME, encode_header(header))
    lock = _lock(path, directory)
    try:
        return lock, _going_on(path, directory, header)
    except BaseException:
        os.close(lock)
        raise


def _finished(directory: int, header: ImageHeader) -> str:
    try:
        found = parse_manifest(read_file(directory, MANIFEST_NAME, MANIFEST_LENGTH_MAX)).header
    except ValueError as error:
        return f"its {MANIFEST_NAME} is not ours ({error}); {_EMPTY_IT}"
    if found.backup_identity != header.backup_identity:
        return f"it holds a snapshot of another volume ({found.backup_identity}); {_EMPTY_IT}"
    return f"it holds a finished snapshot of this volume, taken {found.taken}; {_EMPTY_IT}"


def _lock(path: str, directory: int) -> int:
    descriptor = open_file(directory, UNFINISHED_NAME)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ExportRefusedError(path, "another export to it is under way") from error
    except OSError:
        pass  # a file system without locks: nothing to be done about it
    return descriptor


def _going_on(path: str, directory: int, header: ImageHeader) -> ImageHeader:
    try:
        found = parse_header(read_file(directory, UNFINISHED_NAME, MANIFEST_LENGTH_MAX))
    except ValueError as error:
        reason = f"its {UNFINISHED_NAME} cannot be used: {error}; {_EMPTY_IT}"
        raise ExportRefusedError(path, reason) from error
    if found == replace(header, taken=found.taken):
        return found
    if found.backup_identity != header.backup_identity:
        what = f"of another volume ({found.backup_identity})"
    elif found.compression != header.compression:
        what = f"with compression {found.compression}"
    else:
        what = f"of another snapshot ({found.source_identity}, {found.size} bytes)"
    raise ExportRefusedError(path, f"it holds an unfinished export {what}; {_EMPTY_IT}")
