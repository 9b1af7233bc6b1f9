"""A backup host over SSH: a real server, and everything that it may do to us."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from tcmu_restore.errors import (
    BackupHostRefusedError,
    BackupHostUnreachableError,
    BadAnswerError,
    BadSettingError,
    HostKeyUnknownError,
    RemoteCommandMissingError,
    RestoreError,
    SshLoginError,
)
from tcmu_restore.remote import ssh
from tcmu_restore.remote.answer import ANSWER_LENGTH_MAX
from tcmu_restore.remote.backup_host import HostSettings, RemoteSnapshot, SnapshotRequest
from tcmu_restore.remote.ssh_host import SshBackupHost

from .fakes import REQUEST, URL
from .ssh_server import DROP, SIGNAL, Answer, SshServer, ssh_server

CREATED = {"snapshot": "restore-v", "origin": "block/v", "url": URL, "extents": None}


class Script:
    """What the host's commands answer."""

    def __init__(self) -> None:
        self.answer: Answer = (0, json.dumps(CREATED).encode(), b"")

    def __call__(self, words: list[str]) -> Answer:
        return self.answer


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def server(tmp_path: Path, script: Script) -> Iterator[SshServer]:
    with ssh_server(tmp_path, script) as running:
        yield running


@pytest.fixture
def host(server: SshServer) -> SshBackupHost:
    return SshBackupHost(server.settings)


def test_snapshot_is_asked_for_and_answered(host: SshBackupHost, server: SshServer) -> None:
    request = replace(
        REQUEST, portal="10.1.1.1:3260", extents=((0, 4096), (8192, 512)), size=1 << 30
    )
    with pytest.raises(BadAnswerError, match="extents"):  # asked for some, got everything
        host.create(request)
    assert host.create(replace(request, extents=None)) == RemoteSnapshot(URL, None)
    head = ["tcmu-restore", "snapshot-create", "--json", "--portal", "10.1.1.1:3260"]
    extents = ["--extent", "0:4096", "--extent", "8192:512"]
    names = ["--", "block/v", "restore-v"]
    assert server.commands == [
        [*head, "--size", str(1 << 30), *extents, *names],
        [*head, "--size", str(1 << 30), *names],
    ]
    assert host.addresses == {"127.0.0.1"}


def test_names_that_a_shell_would_act_on_are_words(host: SshBackupHost, server: SshServer) -> None:
    origin = "block/v; touch /x $(id) 'y"
    with pytest.raises(BadAnswerError):
        host.create(SnapshotRequest(snapshot="--help", origin=origin))
    assert server.commands[0][-3:] == ["--", origin, "--help"]


def test_list_and_delete(host: SshBackupHost, script: Script) -> None:
    script.answer = (0, b'{"snapshots": [{"snapshot": "restore-v", "new": 1}]}', b"")
    assert host.has_snapshot(REQUEST)
    assert not host.has_snapshot(replace(REQUEST, snapshot="other"))
    for existed in (True, False):
        answer = {"snapshot": "restore-v", "existed": existed}
        script.answer = (0, json.dumps(answer).encode(), b"")
        assert host.delete(REQUEST) is existed


def test_user_who_is_not_root_uses_sudo(server: SshServer) -> None:
    host = SshBackupHost(replace(server.settings, user="admin"))
    assert host.create(REQUEST).url == URL
    assert server.commands[0][:3] == ["sudo", "-n", "tcmu-restore"]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((0, b"hello", b""), BadAnswerError, "not JSON"),
        ((0, b"[" * 100_000, b""), BadAnswerError, "not JSON"),
        ((0, b"[]", b""), BadAnswerError, "not a JSON object"),
        ((0, b"", b""), BadAnswerError, "not JSON"),
        ((0, b"x" * (ANSWER_LENGTH_MAX + 1), b""), BadAnswerError, "longer than"),
        ((0, b"{}", b"e" * (2 * ANSWER_LENGTH_MAX)), BadAnswerError, "longer than"),
        (
            (1, b"", b"tcmu-restore: no\x1b[2J space.\n"),
            BackupHostRefusedError,
            r"no\\x1b\[2J space$",
        ),
        ((5, b"{}", b""), BackupHostRefusedError, "status 5"),
        ((127, b"", b"sh: tcmu-restore: not found"), RemoteCommandMissingError, "not found"),
        ((2, b"", b"Error: No such command 'snapshot-create'."), RemoteCommandMissingError, "No"),
        ((SIGNAL, b"", b""), BadAnswerError, "signal"),
        ((DROP, b"", b""), BackupHostUnreachableError, "Run the same command again"),
    ],
)
def test_answer_that_cannot_be_used_is_one_sentence(
    host: SshBackupHost, script: Script, answer: Answer, error: type[RestoreError], words: str
) -> None:
    script.answer = answer
    with pytest.raises(error, match=words) as caught:
        host.create(REQUEST)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"snapshot": "other"},
        {"origin": "block/other"},
        {"url": None},
        {"url": 7},
        {"url": "iscsi://user:secret@h/iqn.a/0"},
        {"url": "file:///etc/shadow"},
        {"url": "/dev/sda"},
        {"extents": []},
        {"extents": [[0, 0]]},
        {"extents": [[-1, 5]]},
        {"extents": [[True, 5]]},
        {"extents": [[0, 1e3]]},
        {"extents": [[0, 2**70]]},
        {"extents": [["0", "1"]]},
        {"extents": [[0]]},
        {"extents": {"0": 1}},
        {"extents": [[0, 1]] * 5000},
    ],
)
def test_field_that_cannot_be_used_is_refused(
    host: SshBackupHost, script: Script, change: dict[str, object]
) -> None:
    script.answer = (0, json.dumps(CREATED | change).encode(), b"")
    with pytest.raises(BadAnswerError) as caught:
        host.create(REQUEST)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("said", [b"{}", b'{"snapshots": 1}', b'{"snapshots": [1]}'])
def test_list_that_cannot_be_used_is_refused(
    host: SshBackupHost, script: Script, said: bytes
) -> None:
    script.answer = (0, said, b"")
    with pytest.raises(BadAnswerError):
        host.has_snapshot(REQUEST)
    with pytest.raises(BadAnswerError):
        host.delete(REQUEST)


# --- who is who --------------------------------------------------------------------------------


def other_key(server: SshServer) -> HostSettings:
    public = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {public}")
    return server.settings


def no_entry(server: SshServer) -> HostSettings:
    server.known_hosts.write_text("")
    return server.settings


def no_file(server: SshServer) -> HostSettings:
    return replace(server.settings, known_hosts=str(server.known_hosts) + "-not-there")


@pytest.mark.parametrize("settings_of", [other_key, no_entry, no_file])
def test_host_key_must_be_known(
    server: SshServer, settings_of: Callable[[SshServer], HostSettings]
) -> None:
    with pytest.raises(HostKeyUnknownError, match="ssh-keygen -lf"):
        SshBackupHost(settings_of(server)).create(REQUEST)
    assert not server.commands


def test_without_a_file_named_the_usual_ones_are_asked(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(server.settings, known_hosts=None)
    monkeypatch.setattr(ssh, "KNOWN_HOSTS", (tmp_path / "none", tmp_path / "empty"))
    (tmp_path / "empty").write_text("")
    with pytest.raises(HostKeyUnknownError, match=r"none or .*empty"):
        SshBackupHost(settings).create(REQUEST)
    monkeypatch.setattr(ssh, "KNOWN_HOSTS", (tmp_path / "none", server.known_hosts))
    assert SshBackupHost(settings).create(REQUEST).url == URL


def test_key_that_is_not_accepted(server: SshServer, tmp_path: Path) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(tmp_path / "other"))
    settings = replace(server.settings, key=str(tmp_path / "other"))
    with pytest.raises(SshLoginError, match="authorized_keys"):
        SshBackupHost(settings).create(REQUEST)
    assert not server.commands


@pytest.mark.parametrize("content", ["no key", None])
def test_key_that_cannot_be_used(server: SshServer, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "bad"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SshLoginError, match="bad"):
        SshBackupHost(replace(server.settings, key=str(path))).create(REQUEST)


def test_key_with_a_passphrase_asks_for_none(server: SshServer, tmp_path: Path) -> None:
    key = asyncssh.read_private_key(str(server.key))
    key.write_private_key(str(tmp_path / "locked"), "pkcs8-pem", passphrase="secret")
    with pytest.raises(SshLoginError, match="locked"):
        SshBackupHost(replace(server.settings, key=str(tmp_path / "locked"))).create(REQUEST)


def test_nobody_there(server: SshServer) -> None:
    with ExitStack() as stack:
        free = stack.enter_context(socket.socket())
        free.bind(("127.0.0.1", 0))  # bound and not listening
        with pytest.raises(BackupHostUnreachableError):
            SshBackupHost(replace(server.settings, port=free.getsockname()[1])).create(REQUEST)
        free.listen(1)  # listening and silent
        settings = replace(server.settings, port=free.getsockname()[1])
        with pytest.raises(BackupHostUnreachableError, match=r"within 0\.3 s"):
            ssh.run(settings, ["true"], seconds=0.3)


# --- the origin ---------------------------------------------------------------------------------

LINK = b"../../../../../../target/core/"


@pytest.mark.parametrize(
    ("said", "origin"),
    [
        (LINK + b"iblock_0/vol0\n", "block/vol0"),
        ((LINK + b"fileio_12/vm.img-1\n") * 2, "fileio/vm.img-1"),
    ],
)
def test_origin_is_found(host: SshBackupHost, script: Script, said: bytes, origin: str) -> None:
    script.answer = (0, said, b"")
    assert host.find_origin("iqn.2026-11.org.example:v", 0) == origin


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (1, b""),
        (0, b""),
        (0, LINK + b"user_0/vol0\n"),
        (0, LINK + b"iblock_0/a\n" + LINK + b"iblock_1/b\n"),
        (0, b"/etc/passwd\n"),
        (0, LINK + b"iblock_0/--help;x\n"),
    ],
)
def test_origin_that_is_not_clear_must_be_named(
    host: SshBackupHost, script: Script, status: int, said: bytes
) -> None:
    script.answer = (status, said, b"")
    with pytest.raises(BadSettingError, match="block/NAME"):
        host.find_origin("iqn.2026-11.org.example:v", 0)
