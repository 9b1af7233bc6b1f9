"""A whole restore from a backup host: begun, gone on with, or removed. For both shells.

The steps are in ``remote.procedure``; here is what a person says and sees.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from ..errors import (
    BadNameError,
    RestoreError,
    ServiceUnavailableError,
    UnfinishedRestoreError,
    UnknownVolumeError,
    VolumeNotOpenError,
)
from ..options import STATE_DIR, VOLUME_NAME, VOLUME_NAME_LENGTH_MAX
from ..remote.backup_host import BackupHost, HostSettings
from ..remote.procedure import RestoreFrom, Surroundings
from ..remote.record import RestoreRecord, Step, load_record, locked
from ..service.errors import error_class
from ..service.registry_seam import VolumeStatus
from .client import ServiceClient
from .condition import is_open
from .errors import NoBackupHostError, ReplyError
from .merge_wait import wait_for_merge
from .restore_settings import RestoreSettings

SNAPSHOT_NAME_LENGTH_MAX: Final = 64
"""What the backup host's commands take."""

_RETRYABLE: Final = (ServiceUnavailableError, VolumeNotOpenError)


def connect_host(settings: HostSettings) -> BackupHost:
    """Return the host of *settings*. Nothing is sent yet."""
    if settings.is_targetd:
        from ..remote.targetd_call import TargetdCaller  # noqa: PLC0415 - as below
        from ..remote.targetd_host import TargetdBackupHost  # noqa: PLC0415

        return TargetdBackupHost(TargetdCaller(settings.address, settings.login))
    from ..remote.ssh_host import SshBackupHost  # noqa: PLC0415 - asyncssh takes long to load

    return SshBackupHost(settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRun:
    """The outside world of one restore; tests put their own in."""

    client: ServiceClient
    console: Console
    folder: Path = STATE_DIR
    sleep: Callable[[float], None] = time.sleep
    connect: Callable[[HostSettings], BackupHost] = connect_host

    def restore(self, volume: str, settings: RestoreSettings | None) -> VolumeStatus | None:
        """Begin, or go on with what was begun; return the last status, None if nothing is lost.

        Raises:
            UnfinishedRestoreError: one was begun with other settings, or is running.
            NoBackupHostError: there is nothing to go on with, and no *settings*.
            RestoreError: see ``remote.procedure``; the record, if there is one, says how far it is.
        """
        _check_name(volume)
        with locked(self.folder, volume):
            record = load_record(self.folder, volume)
            if record is not None:
                _check_same(record, settings)
                self._say(f"Going on with the restore of {volume}: {record.step.value}.")
                self._procedure(record).run()
                return self.client.status(volume)
            if settings is None:
                raise NoBackupHostError(volume)
            return self._begin(volume, settings)

    def abort(self, volume: str, *, forget: bool) -> bool:
        """Take away what was made; return False if there is nothing to take away."""
        _check_name(volume)
        with locked(self.folder, volume):
            record = load_record(self.folder, volume)
            if record is None:
                return False
            self._procedure(record).abort(has_volume=self._has_volume(volume), forget=forget)
            return True

    def is_unfinished(self, volume: str) -> bool:
        """Return whether a record is there, so that a person may be told what to do."""
        if VOLUME_NAME.fullmatch(volume) is None:
            return False
        try:
            return load_record(self.folder, volume) is not None
        except RestoreError:
            return False

    def _begin(self, volume: str, settings: RestoreSettings) -> VolumeStatus | None:
        status = self.client.status(volume)
        if not is_open(status):
            raise VolumeNotOpenError(volume)
        if not status["regions"]["lost"]:
            return None
        host = self.connect(settings.host)
        origin = settings.origin or _find_origin(host, status)
        request = replace(settings.request, snapshot=snapshot_name(volume), origin=origin)
        record = RestoreRecord(
            volume=volume,
            step=Step.CREATE,
            host=settings.host,
            request=request,
            began=datetime.now(UTC).isoformat(timespec="seconds"),
            credentials=settings.credentials,
        )
        procedure = RestoreFrom(record, self._surroundings(host))
        procedure.begin()
        procedure.run()
        return self.client.status(volume)

    def _procedure(self, record: RestoreRecord) -> RestoreFrom:
        return RestoreFrom(record, self._surroundings(self.connect(record.host)))

    def _surroundings(self, host: BackupHost) -> Surroundings:
        return Surroundings(
            folder=self.folder,
            service=self.client,
            host=host,
            wait=self._wait,
            say=self._say,
            sleep=self.sleep,
            may_retry=may_retry,
        )

    def _wait(self, volume: str) -> None:
        status = wait_for_merge(volume, self.client.status, sleep=self.sleep, console=self.console)
        if report := status["merge"].get("report"):
            self._say(report)

    def _say(self, sentence: str) -> None:
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def _has_volume(self, volume: str) -> bool:
        try:
            self.client.status(volume)
        except ReplyError as error:
            if error_class(error.error_name) is UnknownVolumeError:
                return False
            raise
        return True


def snapshot_name(volume: str) -> str:
    """Return the name of the volume's snapshot there, always the same one."""
    name = f"restore-{volume}"
    if len(name) <= SNAPSHOT_NAME_LENGTH_MAX:
        return name
    digest = hashlib.sha256(volume.encode("ascii")).hexdigest()[:8]
    return f"{name[: SNAPSHOT_NAME_LENGTH_MAX - 9]}-{digest}"


def unfinished_lines(volume: str) -> list[str]:
    """Return what a person is told after an interruption."""
    return [
        f"The restore of {volume} is not finished; a merge that runs goes on by itself.",
        f"Go on with:     tcmu-restore restore-from {volume}",
        f"Remove it with: tcmu-restore restore-from {volume} --abort",
    ]


def may_retry(error: RestoreError) -> bool:
    """Return whether the same command may work later as it is."""
    cls: type[Exception] | None = type(error)
    if isinstance(error, ReplyError):
        cls = error_class(error.error_name)
    if cls is None:  # an answer that nobody knows: nothing is thrown away for it
        return True
    return issubclass(cls, _RETRYABLE) or bool(getattr(cls, "retryable", False))


def _check_name(volume: str) -> None:
    if VOLUME_NAME.fullmatch(volume) is None:
        raise BadNameError(volume[: 2 * VOLUME_NAME_LENGTH_MAX], VOLUME_NAME_LENGTH_MAX)


def _check_same(record: RestoreRecord, settings: RestoreSettings | None) -> None:
    if settings is None:
        return
    request = replace(
        settings.request,
        snapshot=record.request.snapshot,
        origin=settings.origin or record.request.origin,
    )
    wanted = (settings.host, request, settings.credentials)
    if wanted != (record.host, record.request, record.credentials):
        reason = f"it was begun with {record.host.address} and other settings"
        raise UnfinishedRestoreError(record.volume, reason)


def _find_origin(host: BackupHost, status: VolumeStatus) -> str:
    *_, iqn, lun = status["backup"]["url"].split("/")
    return host.find_origin(iqn, int(lun))
