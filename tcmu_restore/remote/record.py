"""How far a restore-from is: a root-only file on the primary, written before each step.

It is there from before the snapshot is taken until after it was removed: whatever is left on the
backup host after an interruption, the record names it, and ``status`` shows the record.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, Final

from ..errors import RestoreRecordError, UnfinishedRestoreError
from ..options import VOLUME_NAME
from ..whole_file import sync_folder, write_whole
from .backup_host import Extents, HostSettings, SnapshotRequest

VERSION: Final = 1
LENGTH_MAX: Final = 1 << 20
"""Bytes; two lists of 4,096 extents are a quarter of it."""


class Step(Enum):
    """What is done next; what it does may be done already, or in part."""

    CREATE = "create"
    ATTACH = "attach"
    MERGE = "merge"
    DETACH = "detach"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRecord:
    """One restore. *credentials* is the file for the snapshot's target; *began* is ISO 8601."""

    volume: str
    step: Step
    host: HostSettings
    request: SnapshotRequest
    began: str
    credentials: str | None = None
    url: str | None = None
    extents: Extents | None = None


def record_path(folder: Path, volume: str) -> Path:
    """Return where the record of *volume* is kept, beside its state file."""
    assert VOLUME_NAME.fullmatch(volume)
    return folder / f"{volume}.restore-from.json"


def load_record(folder: Path, volume: str) -> RestoreRecord | None:
    """Return the record of *volume*, or None. Raises RestoreRecordError: it cannot be read."""
    path = record_path(folder, volume)
    try:
        with path.open("rb") as file:
            data = file.read(LENGTH_MAX + 1)
        return _parse(data, volume)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise RestoreRecordError(str(path), str(error) or type(error).__name__) from error


def save_record(folder: Path, record: RestoreRecord) -> None:
    """Write *record*, whole or not at all, durable on return. Raises RestoreRecordError."""
    path = record_path(folder, record.volume)
    content = asdict(record) | {"version": VERSION, "step": record.step.value}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, json.dumps(content))
    except OSError as error:
        raise RestoreRecordError(str(path), error.strerror or str(error)) from error


def remove_record(folder: Path, volume: str) -> None:
    """Forget the record: nothing is left that it names. Raises RestoreRecordError."""
    path = record_path(folder, volume)
    try:
        path.unlink(missing_ok=True)
        sync_folder(path)
    except OSError as error:
        raise RestoreRecordError(str(path), error.strerror or str(error)) from error


@contextmanager
def locked(folder: Path, volume: str) -> Iterator[None]:
    """Let no second restore of *volume* run meanwhile; the kernel ends this with the process.

    Raises:
        UnfinishedRestoreError: one runs. RestoreRecordError: the lock cannot be made.
    """
    path = record_path(folder, volume).with_suffix(".lock")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RestoreRecordError(str(path), error.strerror or str(error)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnfinishedRestoreError(volume, "it is running in another process") from None
        yield
    finally:
        os.close(descriptor)


def describe_record(folder: Path, volume: str) -> dict[str, Any] | None:
    """Return what a status says of the record of *volume*; None if there is none. Never raises."""
    commands = {
        "go_on": f"tcmu-restore restore-from {volume}",
        "remove": f"tcmu-restore restore-from {volume} --abort",
    }
    try:
        record = load_record(folder, volume)
    except RestoreRecordError as error:
        return {"error": str(error)} | commands
    if record is None:
        return None
    return {
        "error": "",
        "host": record.host.address,
        "origin": record.request.origin,
        "snapshot": record.request.snapshot,
        "step": record.step.value,
        "began": record.began,
    } | commands


def _parse(data: bytes, volume: str) -> RestoreRecord:
    if len(data) > LENGTH_MAX:
        raise ValueError(f"it is longer than {LENGTH_MAX} bytes")
    content = json.loads(data)
    if content.pop("version") != VERSION:
        raise ValueError("another version wrote it")
    if content["volume"] != volume:
        raise ValueError("it is of another volume")
    request = content["request"]
    content["request"] = SnapshotRequest(**request | {"extents": _pairs(request["extents"])})
    content["host"] = HostSettings(**content["host"])
    content["step"] = Step(content["step"])
    content["extents"] = _pairs(content["extents"])
    record = RestoreRecord(**content)
    _check(record, record.request, record.host)
    return record


def _check(*parts: RestoreRecord | SnapshotRequest | HostSettings) -> None:
    """Raise ValueError where a field holds what cannot be a setting."""
    for part in parts:
        for item in fields(part):
            value = getattr(part, item.name)
            is_nested = isinstance(value, (Step, HostSettings, SnapshotRequest, tuple))
            if not is_nested and type(value) not in (str, int, type(None)):
                raise ValueError(f"{item.name!r} is neither a text nor a number")


def _pairs(value: Any) -> Extents | None:
    return None if value is None else tuple((int(offset), int(length)) for offset, length in value)
