"""The real commands of a backup host behind a real SSH server; its LVM and LIO are in memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from tcmu_restore.cli.context import CliContext
from tcmu_restore.cli.main import cli
from tcmu_restore.errors import BackupHostRefusedError, RemoteCommandMissingError
from tcmu_restore.remote.backup_host import RemoteSnapshot, SnapshotRequest
from tcmu_restore.remote.ssh_host import SshBackupHost
from tests.snapshots.rig import IQN, Rig

from .ssh_server import Answer, SshServer, ssh_server

THIN = SnapshotRequest(snapshot="restore-v", origin="block/thin", portal="192.0.2.7:3260")


@dataclass
class RealCommand:
    """Runs what comes over SSH as ``tcmu-restore`` does there."""

    rig: Rig

    def __call__(self, words: list[str]) -> Answer:
        if words[0] != "tcmu-restore":
            return 127, b"", f"sh: 1: {words[0]}: not found\n".encode()
        context = CliContext(make_snapshot_host=lambda: self.rig.host)
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            result = CliRunner().invoke(cli, words[1:], obj=context)
        return result.exit_code, result.stdout.encode(), result.stderr.encode()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def server(tmp_path: Path, rig: Rig) -> Iterator[SshServer]:
    with ssh_server(tmp_path, RealCommand(rig)) as running:
        yield running


@pytest.fixture
def host(server: SshServer) -> SshBackupHost:
    return SshBackupHost(server.settings)


@pytest.mark.parametrize("origin", ["block/thin", "block/classic"])
def test_snapshot_is_made_found_and_removed(host: SshBackupHost, rig: Rig, origin: str) -> None:
    request = SnapshotRequest(snapshot="restore-v", origin=origin, portal="192.0.2.7")
    assert not host.has_snapshot(request)
    made = host.create(request)
    name = origin.partition("/")[2]
    assert made == RemoteSnapshot(f"iscsi://192.0.2.7:3260/{IQN}{name}:snapshot-restore-v/0", None)
    assert host.create(request) == made
    assert host.has_snapshot(request)
    assert host.delete(request)
    assert not host.delete(request)
    assert rig.left() == []


def test_selected_data_set_comes_back_as_it_was_asked_for(host: SshBackupHost) -> None:
    request = SnapshotRequest(
        snapshot="restore-v", origin="block/thin", extents=((0, 4096), (65536, 512))
    )
    assert host.create(request).extents == ((0, 4096), (65536, 512))
    assert host.delete(request)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"origin": "block/other"}, "no storage object 'block/other'"),
        ({"origin": "--help"}, "no storage object '--help'"),
        ({"snapshot": "-x"}, "snapshot=-x cannot be used"),
        ({"portal": "nowhere"}, "portal=nowhere cannot be used"),
        ({"provider": "zfs"}, "zfs"),
        ({"extents": ((1 << 60, 1),)}, "beyond the end"),
    ],
)
def test_refusals_arrive_as_sentences(
    host: SshBackupHost, rig: Rig, change: dict[str, object], words: str
) -> None:
    values = {"snapshot": "restore-v", "origin": "block/thin"} | change
    with pytest.raises(BackupHostRefusedError, match=words):
        host.create(SnapshotRequest(**values))  # type: ignore[arg-type]
    assert rig.left() == []


def test_host_without_the_package_is_told_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    missing: Answer = (127, b"", b"bash: line 1: tcmu-restore: command not found\n")
    with (
        ssh_server(folder, lambda _: missing) as server,
        pytest.raises(RemoteCommandMissingError, match="install this package there"),
    ):
        SshBackupHost(server.settings).create(THIN)
