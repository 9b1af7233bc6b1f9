"""The restore in one step: snapshot, export, attach, merge, detach, delete.

Each step can be done again: the record says which one is next, and each looks first whether it was
done already. So whatever interrupts it, the same command goes on; ``abort`` takes everything away.

====== =============================================== ==========================================
step   what is done                                    if it fails for good
====== =============================================== ==========================================
       looked for an older snapshot, prepare-snapshot  nothing is left, no record
create snapshot-create there                           deleted there, no record
attach attach-snapshot here                            deleted there, no record
merge  merge start or resume here, waited for          stays: go on or abort
detach detach-snapshot here                            stays: go on or abort
delete snapshot-delete there                           stays: go on or abort
====== =============================================== ==========================================
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from ..errors import (
    BackupHostUnreachableError,
    OldSnapshotError,
    RestoreError,
    VolumeNotOpenError,
    WrongStateError,
)
from ..sources.iscsi_url import parse_iscsi_url
from .answer import check_url_host, with_host
from .backup_host import BackupHost
from .record import RestoreRecord, Step, remove_record, save_record

DELETE_RETRY_SECONDS: Final = (2.0, 10.0)
"""The merge took hours; a link that is away just now is worth a moment."""


class Service(Protocol):
    """What is used of the service's client."""

    def status(self, name: str) -> Any:
        """Return the status document of a volume."""

    def prepare_snapshot(self, name: str) -> None:
        """Say that a snapshot is about to be taken."""

    def attach_snapshot(
        self,
        name: str,
        snapshot: str,
        *,
        credentials: str | None = None,
        extents: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Attach a snapshot."""

    def detach_snapshot(self, name: str) -> None:
        """Detach it."""

    def merge(self, action: str, name: str) -> None:
        """Start, resume or cancel the merge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a restore works with.

    *wait* returns when the volume's merge is done, and raises when it ended otherwise. *may_retry*
    tells an error after which the same command may work from one that is final.
    """

    folder: Path
    service: Service
    host: BackupHost
    wait: Callable[[str], object]
    say: Callable[[str], None]
    sleep: Callable[[float], None]
    may_retry: Callable[[RestoreError], bool]


class RestoreFrom:
    """One restore of one volume. The caller holds the volume's lock."""

    def __init__(self, record: RestoreRecord, around: Surroundings) -> None:
        self._record = record
        self._around = around
        self._volume = record.volume
        self._service, self._host = around.service, around.host

    # --- the whole ------------------------------------------------------------------------

    def begin(self) -> None:
        """Get ready for a snapshot that nobody took yet, and write the record.

        Raises:
            OldSnapshotError: an older one has the name; using it would bring back old bytes.
            WrongStateError: a snapshot is attached, or the primary is failed.
        """
        status = self._status()
        if status["primary"]["state"] != "ok":
            reason = "its primary is failed; put a disk in with replace-primary first"
            raise WrongStateError(self._volume, "restore it", reason)
        request = self._record.request
        if self._host.has_snapshot(request):
            remove = self._host.remove_command(request)
            raise OldSnapshotError(self._host.name, request.snapshot, remove)
        self._service.prepare_snapshot(self._volume)
        self._next(self._record.step)

    def run(self) -> None:
        """Do what is left to do. Raises what the steps raise; the record says how far it is."""
        steps = {
            Step.CREATE: self._create,
            Step.ATTACH: self._attach,
            Step.MERGE: self._merge,
            Step.DETACH: self._detach,
            Step.DELETE: self._delete,
        }
        is_last = False
        while not is_last:
            is_last = self._record.step is Step.DELETE
            steps[self._record.step]()
        remove_record(self._around.folder, self._volume)

    def abort(self, *, has_volume: bool, forget: bool) -> None:
        """Take away what was made, here and there; what is merged stays merged.

        *has_volume*: the volume is there still. *forget*: whatever the backup host says.
        """
        if has_volume:
            self._leave_snapshot()
        try:
            self._host.delete(self._record.request)
        except RestoreError as error:
            if not forget:
                raise
            self._around.say(f"{error} Look there: {self._remove_command}")
        remove_record(self._around.folder, self._volume)

    def _leave_snapshot(self) -> None:
        status = self._status()
        if not self._is_attached(status):
            return
        if status["merge"]["state"] in ("running", "paused"):
            self._service.merge("cancel", self._volume)
        self._service.detach_snapshot(self._volume)

    # --- the steps --------------------------------------------------------------------------

    def _create(self) -> None:
        request = self._record.request
        words = f"Taking the snapshot {request.snapshot} of {request.origin}"
        self._around.say(f"{words} on {self._host.name}.")
        try:
            status = self._status()
            made = self._host.create(request)
            url = with_host(made.url, parse_iscsi_url(status["backup"]["url"]).host)
            check_url_host(self._host.name, url, self._allowed_hosts(status))
        except RestoreError as error:
            self._undo(error)
            raise
        extents = request.extents if made.extents is None else made.extents
        self._next(Step.ATTACH, url=url, extents=extents)

    def _attach(self) -> None:
        record = self._record
        assert record.url is not None
        try:
            if not self._is_attached(self._status()):
                self._around.say(f"Attaching {record.url}.")
                self._service.attach_snapshot(
                    self._volume,
                    record.url,
                    credentials=record.credentials,
                    extents=record.extents,
                )
        except RestoreError as error:
            self._undo(error)
            raise
        self._next(Step.MERGE)

    def _merge(self) -> None:
        status = self._status()
        if not self._is_attached(status):  # somebody detached it
            self._next(Step.ATTACH)
            return
        state = status["merge"]["state"]
        if state != "running":
            self._service.merge("resume" if state == "paused" else "start", self._volume)
        self._around.wait(self._volume)
        self._next(Step.DETACH)

    def _detach(self) -> None:
        if self._is_attached(self._status()):
            self._service.detach_snapshot(self._volume)
        self._next(Step.DELETE)

    def _delete(self) -> None:
        self._around.say(f"Removing the snapshot on {self._host.name}.")
        for seconds in DELETE_RETRY_SECONDS:
            try:
                self._host.delete(self._record.request)
            except BackupHostUnreachableError as error:
                self._around.say(f"{error} Trying again in {seconds:g} s.")
                self._around.sleep(seconds)
            else:
                return
        self._host.delete(self._record.request)

    # --- the parts ---------------------------------------------------------------------------

    def _next(self, step: Step, **changes: Any) -> None:
        record = replace(self._record, step=step, **changes)
        save_record(self._around.folder, record)
        self._record = record

    def _undo(self, error: RestoreError) -> None:
        """Nothing is attached: after a final *error* leave nothing on the backup host either."""
        if self._around.may_retry(error):
            return
        try:
            self._host.delete(self._record.request)
            remove_record(self._around.folder, self._volume)
        except RestoreError as second:
            self._around.say(f"What was made there is still there: {second}")

    def _status(self) -> Any:
        status = self._service.status(self._volume)
        if "snapshot" not in status:
            raise VolumeNotOpenError(self._volume)
        return status

    def _is_attached(self, status: Any) -> bool:
        snapshot = status["snapshot"]
        return snapshot is not None and snapshot["source"] == self._record.url

    def _allowed_hosts(self, status: Any) -> frozenset[str]:
        """Return where the snapshot may be: the host, the backup, or where the admin said."""
        record = self._record
        names = {parse_iscsi_url(status["backup"]["url"]).host}
        if record.request.portal is not None:
            names.add(_host_of(record.request.portal))
        if not record.host.is_targetd:
            names.add(record.host.address)
        found = set(names | self._host.addresses)
        for name in names:
            found |= _resolve(name)
        return frozenset(found)

    @property
    def _remove_command(self) -> str:
        return self._host.remove_command(self._record.request)


def _host_of(portal: str) -> str:
    """Return the host of ADDRESS[:PORT]; an IPv6 address may stand in brackets."""
    if portal.startswith("["):
        return portal[1:].partition("]")[0]
    return portal.partition(":")[0] if portal.count(":") == 1 else portal


def _resolve(name: str) -> set[str]:
    with suppress(OSError, UnicodeError):
        return {str(found[4][0]) for found in socket.getaddrinfo(name, None)}
    return set()
