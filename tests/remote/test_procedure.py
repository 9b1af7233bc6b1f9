"""The restore in one step: interrupted everywhere, refused everywhere, and hostile answers."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.cli.restore_run import may_retry
from tcmu_restore.errors import (
    BackupHostRefusedError,
    BackupHostUnreachableError,
    BadAnswerError,
    OldSnapshotError,
    RestoreError,
    SourceLoginError,
    WrongStateError,
)
from tcmu_restore.remote import procedure
from tcmu_restore.remote.backup_host import RemoteSnapshot
from tcmu_restore.remote.procedure import DELETE_RETRY_SECONDS, RestoreFrom, Surroundings
from tcmu_restore.remote.record import (
    RestoreRecord,
    Step,
    load_record,
    remove_record,
    save_record,
)

from .fakes import HOST, REQUEST, URL, Clockwork, FakeHost, FakeService, Stopped

RECORD = RestoreRecord(
    volume="v", step=Step.CREATE, host=HOST, request=REQUEST, began="2026-11-23T00:00:00+00:00"
)


class Rig:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.clock = Clockwork()
        self.service = FakeService(self.clock)
        self.host = FakeHost(self.clock, self.service)
        self.said: list[str] = []
        self.slept: list[float] = []
        monkeypatch.setattr(procedure, "save_record", self._save)
        monkeypatch.setattr(procedure, "remove_record", self._remove)

    def _save(self, folder: Path, record: RestoreRecord) -> None:
        self.clock(f"record {record.step.value}", lambda: save_record(folder, record))

    def _remove(self, folder: Path, volume: str) -> None:
        self.clock("forget", lambda: remove_record(folder, volume))

    @property
    def record(self) -> RestoreRecord | None:
        return load_record(self.folder, "v")

    def procedure(self, record: RestoreRecord) -> RestoreFrom:
        around = Surroundings(
            folder=self.folder,
            service=self.service,
            host=self.host,
            wait=self.service.wait,
            say=self.said.append,
            sleep=self.slept.append,
            may_retry=may_retry,
        )
        return RestoreFrom(record, around)

    def go(self) -> None:
        """As the command does, each time it is typed."""
        record = self.record
        if record is None:
            found = self.procedure(RECORD)
            found.begin()
        else:
            found = self.procedure(record)
        found.run()

    def abort(self) -> None:
        record = self.record
        if record is not None:
            self.procedure(record).abort(has_volume=True, forget=False)

    def check_named(self) -> None:
        """Whatever is left somewhere, the record is there to tell of it."""
        if self.host.snapshots or self.service.snapshot is not None:
            assert self.record is not None

    def check_clean(self) -> None:
        assert self.record is None
        assert not self.host.snapshots
        assert self.service.snapshot is None
        assert self.service.merge_state in ("idle", "done")


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_one_step_does_everything_in_order(rig: Rig) -> None:
    rig.go()
    assert [name for name in rig.clock.done if "record" not in name] == [
        *(
            "list",
            "prepare",
            "create",
            "attach",
            "merge start",
            "wait",
            "detach",
            "delete",
            "forget",
        ),
    ]
    rig.check_clean()
    assert rig.service.is_merged
    assert rig.host.taken_with == [True]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("then", ["go on", "abort", "stop again"])
def test_interrupted_at_any_moment_it_goes_on_or_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, then: str
) -> None:
    for fatal in count():
        folder = tmp_path / f"{fatal}"
        rig = Rig(folder, monkeypatch)
        rig.clock.fatal, rig.clock.after = fatal, after
        try:
            rig.go()
        except Stopped:
            rig.check_named()
        else:
            assert fatal > 12
            return
        if then == "abort":
            rig.abort()
            rig.check_clean()
            continue
        if then == "stop again":  # twice: the second time two operations later
            rig.clock.fatal = len(rig.clock.done) + 2
            try:
                rig.go()
            except Stopped:
                rig.check_named()
        rig.clock.fatal = -1
        was_done = rig.record is None and rig.service.is_merged
        if not was_done:
            rig.go()
        rig.check_clean()
        assert rig.service.is_merged
        assert all(rig.host.taken_with)


@pytest.mark.parametrize("after", [False, True])
def test_abort_interrupted_at_any_moment_is_finished_by_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    for fatal in count():
        rig = Rig(tmp_path / f"{fatal}", monkeypatch)
        rig.clock.fatal = 8  # in the merge
        with pytest.raises(Stopped):
            rig.go()
        assert rig.service.merge_state == "running"
        rig.clock.fatal, rig.clock.after = len(rig.clock.done) + fatal, after
        try:
            rig.abort()
        except Stopped:
            rig.check_named()
        else:
            assert fatal == 4
            rig.check_clean()
            return
        rig.clock.fatal = -1
        rig.abort()
        rig.check_clean()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("create", BackupHostRefusedError("backup1", "no space")),
        ("create", BadAnswerError("backup1", "it is not JSON")),
        ("attach", SourceLoginError("the snapshot", "authentication failed")),
        ("attach", WrongStateError("v", "attach", "one is attached already")),
    ],
)
def test_final_refusal_leaves_nothing(rig: Rig, name: str, error: RestoreError) -> None:
    rig.clock.fatal = {"create": 3, "attach": 5}[name]
    rig.clock.after = name == "create"  # even if it was made
    rig.clock.error = error
    with pytest.raises(type(error)):
        rig.go()
    assert rig.clock.done[rig.clock.fatal] == name
    rig.check_clean()


@pytest.mark.parametrize("fatal", [3, 5])
def test_lost_connection_keeps_the_record_and_the_same_command_goes_on(
    rig: Rig, fatal: int
) -> None:
    rig.clock.fatal, rig.clock.after = fatal, True
    rig.clock.error = BackupHostUnreachableError("backup1", "cut")
    with pytest.raises(BackupHostUnreachableError):
        rig.go()
    assert rig.record is not None
    rig.clock.fatal = -1
    rig.go()
    rig.check_clean()


def test_old_snapshot_of_the_same_name_is_never_used(rig: Rig) -> None:
    """It may be months old: its bytes would come back as if they were newest."""
    rig.host.snapshots["restore-v"] = "block/v"
    with pytest.raises(OldSnapshotError, match="remove restore-v"):
        rig.go()
    assert rig.record is None
    assert not rig.service.is_prepared
    assert rig.host.snapshots


@pytest.mark.parametrize("state", ["attached", "failed"])
def test_volume_in_another_state_is_left_alone(rig: Rig, state: str) -> None:
    if state == "attached":
        rig.service.snapshot = {"source": "/dev/other"}
    else:
        rig.service.primary = "failed"
    with pytest.raises(WrongStateError):
        rig.go()
    assert rig.record is None
    assert not rig.host.snapshots


def test_somebody_elses_snapshot_is_not_detached(rig: Rig) -> None:
    rig.clock.fatal = 5
    with pytest.raises(Stopped):
        rig.go()
    rig.service.snapshot = {"source": "/dev/other"}
    record = rig.record
    assert record is not None
    assert record.step is Step.ATTACH
    rig.clock.fatal = -1
    # the fake's own wants to see nothing attached
    rig.host.delete = lambda request: bool(rig.host.snapshots.pop(request.snapshot))  # type: ignore[method-assign]
    rig.abort()
    assert not rig.host.snapshots
    assert rig.service.snapshot == {"source": "/dev/other"}
    assert rig.record is None


@pytest.mark.parametrize("state", ["paused", "idle", "done"])
def test_merge_is_resumed_or_started_again(rig: Rig, state: str) -> None:
    rig.clock.fatal = 8  # in the wait
    with pytest.raises(Stopped):
        rig.go()
    rig.service.merge_state = state
    rig.clock.fatal = -1
    rig.go()
    rig.check_clean()
    assert rig.service.is_merged
    assert ("merge resume" in rig.clock.done) is (state == "paused")


def test_detached_by_hand_it_is_attached_again(rig: Rig) -> None:
    rig.clock.fatal = 8
    with pytest.raises(Stopped):
        rig.go()
    rig.service.merge_state, rig.service.snapshot = "idle", None
    rig.clock.fatal = -1
    rig.go()
    rig.check_clean()
    assert len(rig.service.attached) == 2


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_removal_is_tried_again(rig: Rig, failures: int) -> None:
    errors = [BackupHostUnreachableError("backup1", "cut")] * failures
    delete = rig.host.delete

    def failing(request: Any) -> bool:
        if errors:
            raise errors.pop()
        return delete(request)

    rig.host.delete = failing  # type: ignore[method-assign]
    if failures > len(DELETE_RETRY_SECONDS):
        with pytest.raises(BackupHostUnreachableError):
            rig.go()
        record = rig.record
        assert record is not None
        assert record.step is Step.DELETE
        assert rig.service.is_merged
    rig.go()
    rig.check_clean()
    assert rig.slept == list(DELETE_RETRY_SECONDS[:failures])


def test_abort_may_forget_a_host_that_is_gone(rig: Rig) -> None:
    rig.clock.fatal = 8
    with pytest.raises(Stopped):
        rig.go()
    rig.clock.fatal = len(rig.clock.done) + 2
    rig.clock.error = BackupHostUnreachableError("backup1", "gone for good")
    record = rig.record
    assert record is not None
    rig.procedure(record).abort(has_volume=True, forget=True)
    assert rig.record is None
    assert rig.service.snapshot is None
    assert "remove restore-v" in rig.said[-1]


@pytest.mark.parametrize(
    ("host", "is_right"),
    [
        ("10.0.0.2", True),  # where SSH went
        ("10.0.0.1", True),  # where the backup is
        ("0.0.0.0", True),  # every address of the host
        ("[::ffff:10.0.0.2]", True),
        ("10.9.9.9", False),
        ("evil.invalid", False),
    ],
)
def test_snapshot_must_be_where_the_backup_host_is(rig: Rig, host: str, is_right: bool) -> None:
    rig.host.made = RemoteSnapshot(f"iscsi://{host}/iqn.2026-11.org.example:s/0", ((0, 4096),))
    if is_right:
        rig.go()
        expected = "10.0.0.1:3260" if host == "0.0.0.0" else f"{host}"
        assert expected in rig.service.attached[0][0]
        assert rig.service.attached[0][2] == ((0, 4096),)
    else:
        with pytest.raises(BadAnswerError, match="--portal"):
            rig.go()
        assert not rig.service.attached
    rig.check_clean()


def test_record_names_the_snapshot_before_it_is_taken(rig: Rig) -> None:
    rig.clock.fatal = 3
    with pytest.raises(Stopped):
        rig.go()
    record = rig.record
    assert record == RECORD
    assert record.url is None
    rig.clock.fatal = len(rig.clock.done) + 2
    with pytest.raises(Stopped):
        rig.go()
    record = rig.record
    assert record is not None
    assert record.url == URL
