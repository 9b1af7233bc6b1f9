"""A backup host that runs targetd."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tcmu_restore.errors import (
    BackupHostRefusedError,
    BackupHostUnreachableError,
    BadAnswerError,
    BadDefinitionError,
    BadSettingError,
    RestoreError,
    TargetdLoginError,
)
from tcmu_restore.remote.answer import ANSWER_LENGTH_MAX
from tcmu_restore.remote.backup_host import RemoteSnapshot, SnapshotRequest
from tcmu_restore.remote.targetd_call import TargetdCaller
from tcmu_restore.remote.targetd_host import TargetdBackupHost

from .fake_targetd import PASSWORD, POOL, USER, FakeTargetd, fake_targetd

OURS = "iqn.2026-11.org.example:primary"
TARGET = "iqn.2003-01.org.linux-iscsi.backup:targetd"
REQUEST = SnapshotRequest(snapshot="restore-v", origin=f"{POOL}/vm", target=TARGET)


@pytest.fixture
def targetd() -> Iterator[FakeTargetd]:
    with fake_targetd() as running:
        yield running


def login(folder: Path, password: str = PASSWORD) -> str:
    path = folder / f"login-{len(password)}.toml"
    path.touch(mode=0o600)
    path.write_text(f'user = "{USER}"\npassword = "{password}"\n')
    return str(path)


@pytest.fixture
def host(targetd: FakeTargetd, tmp_path: Path) -> TargetdBackupHost:
    caller = TargetdCaller(f"http://127.0.0.1:{targetd.port}/targetrpc", login(tmp_path))
    return TargetdBackupHost(caller, OURS)


def test_copy_is_exported_and_taken_away(targetd: FakeTargetd, host: TargetdBackupHost) -> None:
    theirs = {"pool": POOL, "vol_name": "other", "initiator_wwn": "iqn.them", "lun": 1}
    ours = {"pool": POOL, "vol_name": "mine", "initiator_wwn": OURS, "lun": 0}
    targetd.exports += [theirs, ours]
    assert not host.has_snapshot(REQUEST)
    made = host.create(REQUEST)
    assert made == RemoteSnapshot(f"iscsi://127.0.0.1:3260/{TARGET}/1", None)
    assert host.has_snapshot(REQUEST)
    assert host.create(REQUEST) == made  # the same again
    assert host.delete(REQUEST)
    assert not host.delete(REQUEST)
    assert targetd.exports == [theirs, ours]
    assert targetd.volumes[POOL] == {"vm"}


def test_copy_that_was_not_exported_is_finished(
    targetd: FakeTargetd, host: TargetdBackupHost
) -> None:
    targetd.volumes[POOL].add("restore-v")
    request = replace(REQUEST, portal="10.0.0.9", extents=((0, 4096),))
    made = host.create(request)
    assert made == RemoteSnapshot(f"iscsi://10.0.0.9:3260/{TARGET}/0", ((0, 4096),))
    assert "vol_copy" not in targetd.calls


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"origin": "tank/vm"}, BackupHostRefusedError, "ZFS"),
        ({"origin": "vg-plain/vm"}, BackupHostRefusedError, "thin-provisioned"),
        ({"origin": "nowhere/vm"}, BackupHostRefusedError, "Invalid pool"),
        ({"origin": f"{POOL}/other"}, BackupHostRefusedError, "not found in pool"),
        ({"origin": "vm"}, BadSettingError, "POOL/VOLUME"),
        ({"target": None}, BadSettingError, "target_name"),
        ({"partition": 1}, BadSettingError, "targetd cannot"),
        ({"size": 1}, BadSettingError, "targetd cannot"),
        ({"provider": "lvm"}, BadSettingError, "targetd cannot"),
    ],
)
def test_request_that_cannot_be_changes_nothing(
    targetd: FakeTargetd,
    host: TargetdBackupHost,
    change: dict[str, object],
    error: type[RestoreError],
    words: str,
) -> None:
    before = {pool: set(names) for pool, names in targetd.volumes.items()}
    with pytest.raises(error, match=words):
        host.create(replace(REQUEST, **change))  # type: ignore[arg-type]
    assert targetd.volumes == before
    assert not targetd.exports


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"hello",
        b'{"id": 99, "result": []}',
        b'{"id": 1}',
        b'{"id": 1, "result": {"a": 1}}',
        b'{"id": 1, "result": [1]}',
        b"x" * (ANSWER_LENGTH_MAX + 5),
    ],
)
def test_answer_that_cannot_be_used(
    targetd: FakeTargetd, host: TargetdBackupHost, raw: bytes
) -> None:
    targetd.raw = raw
    with pytest.raises(BadAnswerError):
        host.has_snapshot(REQUEST)


@pytest.mark.parametrize("lun", ["0", -1, 256, True, None])
def test_export_with_an_odd_lun_is_refused(
    targetd: FakeTargetd, host: TargetdBackupHost, lun: object
) -> None:
    targetd.exports.append({"pool": POOL, "vol_name": "x", "initiator_wwn": OURS, "lun": lun})
    with pytest.raises(BadAnswerError, match="LUN"):
        host.create(REQUEST)


def test_odd_error_is_one_clean_sentence(targetd: FakeTargetd, host: TargetdBackupHost) -> None:
    targetd.raw = b'{"id": 1, "error": {"code": -1, "message": "a\\u001b[2Jb\\nc"}}'
    with pytest.raises(BackupHostRefusedError, match=r"vol_list: a\\x1b\[2Jb c$"):
        host.has_snapshot(REQUEST)
    targetd.raw = b'{"id": 1, "error": 7}'
    with pytest.raises(BackupHostRefusedError):
        host.has_snapshot(REQUEST)


def test_redirect_is_not_followed(targetd: FakeTargetd, host: TargetdBackupHost) -> None:
    targetd.status = 302
    with pytest.raises(BadAnswerError, match="302"):
        host.has_snapshot(REQUEST)


def test_wrong_password_is_a_sentence_without_it(targetd: FakeTargetd, tmp_path: Path) -> None:
    path = login(tmp_path, "wrong-secret")
    host = TargetdBackupHost(TargetdCaller(f"http://127.0.0.1:{targetd.port}", path), OURS)
    with pytest.raises(TargetdLoginError) as caught:
        host.has_snapshot(REQUEST)
    assert "wrong-secret" not in str(caught.value)
    assert not targetd.calls


def test_login_file_that_others_read_is_refused(tmp_path: Path) -> None:
    path = login(tmp_path)
    Path(path).chmod(0o644)
    with pytest.raises(BadDefinitionError, match="0600"):
        TargetdCaller("http://h/targetrpc", path)


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        caller = TargetdCaller(f"http://127.0.0.1:{free.getsockname()[1]}", login(tmp_path))
        with pytest.raises(BackupHostUnreachableError):
            TargetdBackupHost(caller, OURS).has_snapshot(REQUEST)


@pytest.mark.parametrize(
    "url",
    ["http://", "https://h/other", "https://h:x/", "https://u:pw@h", "https://h?q", "http://h:0"],
)
def test_url_that_cannot_be(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettingError) as caught:
        TargetdCaller(url, login(tmp_path))
    assert "pw" not in str(caught.value)


def test_origin_must_be_named(host: TargetdBackupHost) -> None:
    with pytest.raises(BadSettingError, match="POOL/VOLUME"):
        host.find_origin(TARGET, 0)
