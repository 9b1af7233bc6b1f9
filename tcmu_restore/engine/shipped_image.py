"""Finds exported snapshots on a mounted file system, which a stranger may have written.

Only the top folder and the folders in it are looked at, of each only its manifest, and no link is
followed. What cannot be read is passed over: a hostile disk gains no more than its own absence.
Blocking, on a disk that may hang; to be called from a thread of its own.
"""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from ..log_line import log_line
from ..sources.image_directory import read_file
from ..sources.image_manifest import MANIFEST_LENGTH_MAX, MANIFEST_NAME, parse_manifest

log = logging.getLogger(__name__)

FOLDERS_MAX: Final = 256
"""Folders that are looked into; a disk that is carried for a restore has a few. The rest of a
fuller disk is not looked at: its snapshot can be attached by its path."""

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An exported snapshot that is here; nothing but its manifest was read."""

    path: str
    identity: str
    """As ``SnapshotImage.geometry.identity``: names this export."""

    backup_identity: str
    taken: datetime
    size: int


def find_images(mount_point: str) -> list[FoundImage]:
    """Return the exported snapshots in the folder *mount_point* and one level below.

    Raises:
        OSError: the folder itself cannot be read.
    """
    top = os.open(mount_point, _FLAGS)
    try:
        names = ["", *_folders(top)]
        found = [_look_into(top, name, mount_point) for name in names]
    finally:
        os.close(top)
    return [image for image in found if image is not None]


def _folders(top: int) -> list[str]:
    """Return the names of folders that can be shown to a person."""
    with os.scandir(top) as entries:
        return sorted(
            entry.name
            for entry in islice(entries, FOLDERS_MAX)
            if entry.name.isprintable() and entry.is_dir(follow_symlinks=False)
        )


def _look_into(top: int, name: str, mount_point: str) -> FoundImage | None:
    path = os.path.join(mount_point, name) if name else mount_point
    try:
        return _read(top, name, path)
    except OSError as error:
        if error.errno != errno.ENOENT:  # most folders hold none
            sentence = f"{path} is not looked at: {error.strerror}"
            log.info(log_line(sentence, operation="shipped-disk"))
    except ValueError as error:
        sentence = f"{path} holds no snapshot that could be used: {error}"
        log.info(log_line(sentence, operation="shipped-disk"))
    return None


def _read(top: int, name: str, path: str) -> FoundImage | None:
    folder = os.open(name or ".", _FLAGS, dir_fd=top)
    try:
        if os.fstat(folder).st_dev != os.fstat(top).st_dev:
            return None  # another file system is mounted there, and has its own turn
        manifest = parse_manifest(read_file(folder, MANIFEST_NAME, MANIFEST_LENGTH_MAX))
    finally:
        os.close(folder)
    header = manifest.header
    taken = datetime.fromisoformat(header.taken)
    identity = f"image.{manifest.sha256}"
    return FoundImage(path, identity, header.backup_identity, taken, header.size)
