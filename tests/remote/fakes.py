"""A backup host and a service in memory that keep their contracts, and stop dead when told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tcmu_restore.errors import WrongStateError
from tcmu_restore.remote.backup_host import (
    BackupHost,
    HostSettings,
    RemoteSnapshot,
    SnapshotRequest,
)

HOST = HostSettings(address="10.0.0.2")
REQUEST = SnapshotRequest(snapshot="restore-v", origin="block/v")
URL = "iscsi://10.0.0.2:3260/iqn.2026-11.org.example:v:snapshot-restore-v/0"


class Stopped(BaseException):
    """As a kill or Ctrl-C: no code of ours handles it."""


@dataclass
class Clockwork:
    """Counts what the outside world does, and stops before or after number *fatal*."""

    fatal: int = -1
    after: bool = False
    done: list[str] = field(default_factory=list)
    error: BaseException | None = None

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        is_fatal = len(self.done) == self.fatal
        self.done.append(name)
        if is_fatal and not self.after:
            raise self.error or Stopped(name)
        result = work()
        if is_fatal:
            raise self.error or Stopped(name)
        return result


class FakeHost(BackupHost):
    def __init__(self, clock: Clockwork, service: FakeService) -> None:
        self.clock = clock
        self.service = service
        self.snapshots: dict[str, str] = {}
        self.taken_with: list[bool] = []
        self.made = RemoteSnapshot(URL, None)

    @property
    def name(self) -> str:
        return "backup1"

    @property
    def addresses(self) -> frozenset[str]:
        return frozenset({"10.0.0.2"})

    def find_origin(self, iqn: str, lun: int) -> str:
        return "block/v"

    def has_snapshot(self, request: SnapshotRequest) -> bool:
        return bool(self.clock("list", lambda: request.snapshot in self.snapshots))

    def create(self, request: SnapshotRequest) -> RemoteSnapshot:
        def work() -> RemoteSnapshot:
            if request.snapshot not in self.snapshots:
                self.snapshots[request.snapshot] = request.origin
                self.taken_with.append(self.service.is_prepared)
            return self.made

        made: RemoteSnapshot = self.clock("create", work)
        return made

    def delete(self, request: SnapshotRequest) -> bool:
        assert self.service.snapshot is None, "deleted under the volume's feet"
        work = lambda: self.snapshots.pop(request.snapshot, None) is not None  # noqa: E731
        return bool(self.clock("delete", work))

    def remove_command(self, request: SnapshotRequest) -> str:
        return f"remove {request.snapshot}"


class FakeService:
    """One volume; keeps the rules of the verbs as the engine does."""

    def __init__(self, clock: Clockwork) -> None:
        self.clock = clock
        self.snapshot: dict[str, Any] | None = None
        self.merge_state = "idle"
        self.is_prepared = False
        self.is_merged = False
        self.primary = "ok"
        self.attached: list[Any] = []

    def status(self, name: str) -> Any:
        return {
            "volume": name,
            "snapshot": self.snapshot,
            "merge": {"state": self.merge_state},
            "primary": {"state": self.primary},
            "backup": {"url": "iscsi://10.0.0.1/iqn.2026-11.org.example:v/0"},
        }

    def prepare_snapshot(self, name: str) -> None:
        def work() -> None:
            self._want(self.snapshot is None, "prepare")
            self.is_prepared = True

        self.clock("prepare", work)

    def attach_snapshot(
        self,
        name: str,
        snapshot: str,
        *,
        credentials: str | None = None,
        extents: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        def work() -> None:
            self._want(self.snapshot is None, "attach")
            self.attached.append((snapshot, credentials, extents))
            self.snapshot = {"source": snapshot}

        self.clock("attach", work)

    def detach_snapshot(self, name: str) -> None:
        def work() -> None:
            self._want(self.merge_state not in ("running", "paused"), "detach")
            self._want(self.snapshot is not None, "detach")
            self.snapshot = None

        self.clock("detach", work)

    def merge(self, action: str, name: str) -> None:
        allowed = {
            "start": ("idle", "done"),
            "resume": ("paused",),
            "cancel": ("running", "paused"),
        }

        def work() -> None:
            self._want(self.merge_state in allowed[action] and self.snapshot is not None, action)
            self.merge_state = "idle" if action == "cancel" else "running"

        self.clock(f"merge {action}", work)

    def wait(self, name: str) -> None:
        def work() -> None:
            assert self.merge_state == "running"
            self.merge_state, self.is_merged = "done", True

        self.clock("wait", work)

    def _want(self, holds: bool, verb: str) -> None:
        if not holds:
            raise WrongStateError("v", verb, "it does not fit")
