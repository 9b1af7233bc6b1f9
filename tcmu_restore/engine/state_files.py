"""The files of one volume's state, as bytes: reading, placing and the high-water mark.

``NAME.db`` is the database, ``NAME.db-wal`` its write-ahead log, ``NAME.db-shm`` SQLite's index of
the log (none is made any more) and ``NAME.db-mark`` the mark. ``NAME.db.new`` and
``NAME.db.note`` are files that are not placed yet; they may always be deleted.

The mark is the number of the last commit that was reported as durable, in a file of its own. It is
overwritten after each commit and never flushed: after a power cut it may be too low, but it is
never too high. A state with fewer commits than its mark has lost some, or is an old copy. A mark
that is missing or damaged is passed over.

While a rebuild moves the old files away, ``NAME.db`` is a *note* that says where they are.

Nothing here knows what the bytes mean. Any thread; nothing is locked.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..whole_file import sync_folder

WAL: Final = "-wal"
MARK: Final = "-mark"
BESIDE: Final = (WAL, "-shm", MARK)
"""What is appended to the database's name; to be deleted and moved along with it."""

NOTE: Final = b"tcmu-restore: a rebuild was interrupted; the old state is "
"""How a note begins; the name of the old database follows."""

_MARK: Final = struct.Struct("<Q8s")


@dataclass(frozen=True, slots=True)
class StateFiles:
    """The bytes of one state. What is not there is empty."""

    path: Path
    main: bytes
    wal: bytes = b""
    mark: int | None = None
    """Commits that were reported as durable; None if that is not known."""


def state_path(folder: Path, name: str) -> Path:
    """Return where the database of the volume *name* is."""
    return folder / f"{name}.db"


def files_of(path: Path) -> list[Path]:
    """Return the names of the database *path* and of all that belongs to it, the database first."""
    return [path, *(beside(path, suffix) for suffix in BESIDE)]


def beside(path: Path, suffix: str) -> Path:
    """Return the name of the file that belongs to the database *path*."""
    return path.with_name(path.name + suffix)


def read_files(path: Path) -> StateFiles:
    """Return what is there. Raises OSError if a file cannot be read; changes nothing."""
    return StateFiles(
        path, _read(path), _read(beside(path, WAL)), decode_mark(_read(beside(path, MARK)))
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


# --- placing ------------------------------------------------------------------------------


def place_first(path: Path, content: bytes) -> None:
    """Make *path*, whole or not at all, and durable on return.

    Raises:
        OSError: it is there already, or cannot be written; nothing was changed.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    new = write_aside(path, content)
    delete_beside(path)  # left by a deletion that was interrupted
    os.link(new, path)
    new.unlink()
    sync_folder(path)


def find_moved(path: Path) -> Path | None:
    """Return where the old database is, if *path* is a note; None if it is anything else."""
    try:
        content = _read(path)
    except OSError:
        return None
    if not content.startswith(NOTE):
        return None
    name = content[len(NOTE) :].decode(errors="replace").strip()
    if "/" in name or not name.startswith(path.name):
        return None
    return path.with_name(name)


def place_instead(path: Path, new: Path, aside: Path) -> None:
    """Let *new* take the place of *path*, and keep what was there under the name *aside*.

    At every moment *path* is the old database with its log, a note that names *aside*, where all
    of it is then, or the new database without a log. May raise OSError; to be called again then,
    with the same *aside* if there is a note.
    """
    if find_moved(path) is None:
        for old, kept in zip(files_of(path), files_of(aside), strict=True):
            with suppress(FileNotFoundError):
                os.link(old, kept)
        sync_folder(path)
        _replace(path, write_aside(path, NOTE + aside.name.encode() + b"\n", ".note"))
    delete_beside(path)
    _replace(path, new)


def _replace(path: Path, new: Path) -> None:
    new.replace(path)
    sync_folder(path)


def write_aside(path: Path, content: bytes, suffix: str = ".new") -> Path:
    """Write *content* durably beside *path*, readable by root alone; return where. May OSError."""
    new = beside(path, suffix)
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    return new


def delete_beside(path: Path) -> None:
    """Delete the log and the mark of *path*, durably. May raise OSError."""
    for file in files_of(path)[1:]:
        file.unlink(missing_ok=True)
    sync_folder(path)


# --- the mark -----------------------------------------------------------------------------


def encode_mark(commits: int) -> bytes:
    """Return the mark's bytes: few enough for one sector, so that no crash can tear them."""
    number = commits.to_bytes(8, "little")
    return _MARK.pack(commits, hashlib.blake2b(number, digest_size=8, person=b"mark").digest())


def decode_mark(content: bytes) -> int | None:
    """Return the number of commits, or None if *content* is not a mark."""
    if len(content) != _MARK.size:
        return None
    commits: int = _MARK.unpack(content)[0]
    return commits if encode_mark(commits) == content else None


class Mark:
    """The mark of an open state. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = beside(path, MARK)
        self._descriptor = -1

    def write(self, commits: int) -> int:
        """Note that *commits* are durable; return the bytes written. Never raises.

        A mark that cannot be written stays too low, which is harmless.
        """
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            return os.pwrite(self._descriptor, encode_mark(commits), 0)
        except OSError:
            return 0

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
