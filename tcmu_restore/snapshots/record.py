"""What this host knows of its snapshots: one root-only JSON file each, written whole.

A record is written before anything is made and removed after everything is gone, so that whatever
interrupts a command, ``snapshot-list`` shows what is there and the same command goes on. A record
is read as if somebody else had written it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from ..errors import BadSettingError
from ..options import STATE_DIR
from ..whole_file import sync_folder, write_whole
from .errors import SnapshotRecordError
from .selection import Extents

RECORD_FOLDER: Final = STATE_DIR / "snapshots"

NAME_LENGTH_MAX: Final = 64
"""LVM's names end at 127 characters with the volume group's."""

_NAME: Final = re.compile(f"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{NAME_LENGTH_MAX - 1}}}")

_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One snapshot. Sizes are bytes."""

    snapshot: str
    origin: str
    """``block/NAME`` or ``fileio/NAME``."""

    provider: str
    device: str
    size: int
    block_size: int
    area: int | None
    """The chosen size of a classic snapshot's area."""

    target: str
    portals: tuple[str, ...]
    """ADDRESS:PORT, as initiators are told; the first is the one that is printed."""

    serial: str
    extents: Extents | None
    """The selected data set; None: all of it."""

    created: str
    """ISO 8601, UTC: shortly before it was taken, never after."""

    is_taken: bool
    """The device is whole. One that is not is taken anew: nobody has seen it."""

    @property
    def storage_object(self) -> str:
        """The name of the LIO storage object that serves it."""
        return f"snapshot-{self.snapshot}"

    @property
    def url(self) -> str:
        """Where the primary finds it."""
        return f"iscsi://{self.portals[0]}/{self.target}/0"


def check_name(snapshot: str) -> None:
    """Raise BadSettingError unless *snapshot* can name a snapshot."""
    if _NAME.fullmatch(snapshot) is None:
        reason = f"use 1 to {NAME_LENGTH_MAX} letters, digits, '-', '_' or '.', a letter first"
        raise BadSettingError("snapshot", snapshot[: 2 * NAME_LENGTH_MAX], reason)


class RecordFolder:
    """The records. All methods raise SnapshotRecordError where the file system does not allow."""

    def __init__(self, folder: Path = RECORD_FOLDER) -> None:
        self._folder = folder

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep out other commands that change snapshots; waits for the one that is under way."""
        path = self._folder / ".lock"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SnapshotRecordError(str(path), str(error.strerror)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def load(self, snapshot: str) -> Record | None:
        """Return the record of *snapshot*, or None. Raises BadSettingError: not a name."""
        check_name(snapshot)
        path = self._path(snapshot)
        try:
            record = _parse(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SnapshotRecordError(str(path), str(error.strerror)) from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise SnapshotRecordError(str(path), f"it is damaged ({error})") from error
        if record.snapshot != snapshot:
            raise SnapshotRecordError(str(path), f"it is of the snapshot {record.snapshot!r}")
        return record

    def load_all(self) -> list[Record]:
        """Return all records, by name."""
        try:
            names = sorted(path.stem for path in self._folder.glob("*.json"))
        except OSError as error:
            raise SnapshotRecordError(str(self._folder), str(error.strerror)) from error
        found = (self.load(name) for name in names)
        return [record for record in found if record is not None]

    def save(self, record: Record) -> None:
        """Write a record, whole or not at all."""
        path = self._path(record.snapshot)
        text = json.dumps({"version": _VERSION} | asdict(record), indent=2) + "\n"
        try:
            write_whole(path, text)
        except OSError as error:
            raise SnapshotRecordError(str(path), str(error.strerror)) from error

    def remove(self, snapshot: str) -> None:
        """Forget a snapshot."""
        path = self._path(snapshot)
        try:
            with suppress(FileNotFoundError):
                path.unlink()
                sync_folder(path)
        except OSError as error:
            raise SnapshotRecordError(str(path), str(error.strerror)) from error

    def _path(self, snapshot: str) -> Path:
        return self._folder / f"{snapshot}.json"


def _parse(raw: Any) -> Record:
    """Return the record in *raw*. Raises ValueError, TypeError or KeyError."""
    raw = dict(raw)
    if raw.pop("version") != _VERSION:
        raise ValueError("it is of another version")
    raw["portals"] = tuple(raw["portals"])
    if raw["extents"] is not None:
        raw["extents"] = tuple((int(offset), int(length)) for offset, length in raw["extents"])
    record = Record(**raw)
    texts = [getattr(record, item.name) for item in fields(Record) if item.type == "str"]
    if not all(isinstance(text, str) for text in (*texts, *record.portals)) or not record.portals:
        raise TypeError("something is not a text")
    numbers = (record.size, record.block_size, 0 if record.area is None else record.area)
    if not all(type(number) is int for number in numbers) or type(record.is_taken) is not bool:
        raise TypeError("something is not a number")
    check_name(record.snapshot)
    if not record.device.startswith("/"):
        raise ValueError("the device is not a path")
    return record
