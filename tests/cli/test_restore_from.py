"""``restore-from``: the whole command, over a real SSH server, with the service on a real bus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.cli.restore_run import SNAPSHOT_NAME_LENGTH_MAX, snapshot_name
from tcmu_restore.errors import SourceLoginError, SourceUnreachableError
from tcmu_restore.remote.record import describe_record, record_path
from tests.cli.command_line import CommandLine, Outcome
from tests.remote.ssh_server import DROP, Answer, SshServer, ssh_server
from tests.service.fake_registry import SIZE, FakeRegistry, make_status

LINK = b"../../../../../../target/core/iblock_0/vm\n"
URL = "iscsi://127.0.0.1:3260/iqn.2026-11.org.example:vm:snapshot-restore-a/0"
DONE = {"state": "done", "bytes_done": SIZE, "seconds_left": None}


class Backup:
    """What the commands of a backup host do, in memory."""

    def __init__(self) -> None:
        self.snapshots: dict[str, str] = {}
        self.failures: dict[str, Answer] = {}

    def __call__(self, words: list[str]) -> Answer:
        if words[0] == "find":
            return 0, LINK, b""
        verb, names = words[1], words[words.index("--") + 1 :] if "--" in words else []
        if verb in self.failures:
            return self.failures.pop(verb)
        answer = getattr(self, verb.replace("-", "_"))(*names)
        if "--extent" in words:
            offset, _, length = words[words.index("--extent") + 1].partition(":")
            answer["extents"] = [[int(offset), int(length)]]
        return 0, json.dumps(answer).encode(), b""

    def snapshot_create(self, origin: str, snapshot: str) -> dict[str, Any]:
        self.snapshots[snapshot] = origin
        return {"snapshot": snapshot, "origin": origin, "url": URL, "extents": None}

    def snapshot_list(self) -> dict[str, Any]:
        return {"snapshots": [{"snapshot": name} for name in self.snapshots]}

    def snapshot_delete(self, snapshot: str) -> dict[str, Any]:
        existed = self.snapshots.pop(snapshot, None) is not None
        return {"snapshot": snapshot, "existed": existed}


@pytest.fixture
def backup() -> Backup:
    return Backup()


@pytest.fixture
def server(tmp_path: Path, backup: Backup) -> Iterator[SshServer]:
    with ssh_server(tmp_path, backup) as running:
        yield running


class Restore:
    """Types the command."""

    def __init__(self, command_line: CommandLine, server: SshServer, folder: Path) -> None:
        self.command_line = command_line
        self.command_line.state_dir = self.folder = folder
        self.options = ["--port", str(server.port), "--key", str(server.key)]
        self.options += ["--known-hosts", str(server.known_hosts)]

    def __call__(self, *more: str) -> Outcome:
        return self.command_line("restore-from", "a", "127.0.0.1", *self.options, *more)

    def go_on(self, *more: str) -> Outcome:
        return self.command_line("restore-from", "a", *more)

    @property
    def is_unfinished(self) -> bool:
        return record_path(self.folder, "a").exists()


@pytest.fixture
def restore(
    command_line: CommandLine, server: SshServer, tmp_path: Path, registry: FakeRegistry
) -> Restore:
    registry.volumes["a"] = make_status("a")
    registry.merge_steps = [{"bytes_done": SIZE // 2}, dict(DONE)]
    return Restore(command_line, server, tmp_path / "state")


def verbs(registry: FakeRegistry) -> list[str]:
    return [call[0] for call in registry.calls if call[0] not in ("status", "list")]


def test_one_command_restores_and_leaves_nothing(
    restore: Restore, backup: Backup, registry: FakeRegistry
) -> None:
    outcome = restore("--credentials", "/etc/chap.toml")
    assert outcome.status == 0, outcome.out
    assert verbs(registry) == ["prepare_snapshot", "attach", "merge_start", "detach"]
    assert ("attach", "a", URL, "/etc/chap.toml") in registry.calls
    assert "Taking the snapshot restore-a of block/vm on 127.0.0.1." in outcome.out
    assert "100 % of 1 GiB" in outcome.out
    assert "Merged; nothing is left on the backup host." in outcome.out
    assert not backup.snapshots
    assert not restore.is_unfinished


def test_interrupted_in_the_merge_it_says_what_to_type_and_goes_on(
    restore: Restore, backup: Backup, registry: FakeRegistry
) -> None:
    restore.command_line.on_sleep = KeyboardInterrupt
    registry.merge_steps = []
    outcome = restore("--extent", "1M:64k")
    assert outcome.status == 130
    assert "Go on with:     tcmu-restore restore-from a\n" in outcome.out
    assert backup.snapshots == {"restore-a": "block/vm"}
    found = describe_record(restore.folder, "a")
    assert found is not None
    assert (found["step"], found["origin"], found["host"]) == ("merge", "block/vm", "127.0.0.1")
    assert ("attach", "a", URL, "", "[(1048576, 65536)]") in registry.calls

    other = restore("--origin", "block/other")
    assert other.status == 2
    assert "other settings" in other.out
    restore.command_line.on_sleep = None
    registry.merge_steps = [{}, {}, dict(DONE)]
    assert restore.go_on().status == 0
    assert not backup.snapshots
    assert not restore.is_unfinished
    assert verbs(registry).count("attach") == 1


def test_abort_removes_everything(restore: Restore, backup: Backup, registry: FakeRegistry) -> None:
    restore.command_line.on_sleep = KeyboardInterrupt
    registry.merge_steps = []
    restore()
    outcome = restore.go_on("--abort")
    assert outcome.status == 0
    assert "Removed" in outcome.out
    assert verbs(registry)[-2:] == ["merge_cancel", "detach"]
    assert not backup.snapshots
    assert not restore.is_unfinished
    again = restore.go_on("--abort")
    assert again.status == 0
    assert "no unfinished restore" in again.out


def test_abort_works_when_the_volume_is_gone(
    restore: Restore, backup: Backup, registry: FakeRegistry
) -> None:
    restore.command_line.on_sleep = KeyboardInterrupt
    restore()
    del registry.volumes["a"]
    assert restore.go_on("--abort").status == 0
    assert not backup.snapshots


def test_dropped_connection_while_removing_is_tried_again(
    restore: Restore, backup: Backup, registry: FakeRegistry
) -> None:
    backup.failures["snapshot-delete"] = (DROP, b"", b"")
    outcome = restore()
    assert outcome.status == 0
    assert "Trying again in 2 s." in outcome.out
    assert not backup.snapshots


def test_refused_snapshot_changes_nothing(
    restore: Restore, backup: Backup, registry: FakeRegistry
) -> None:
    refusal = (
        b"tcmu-restore: There is no space for a snapshot of 'block/vm'. Nothing was changed.\n"
    )
    backup.failures["snapshot-create"] = (4, b"", refusal)
    outcome = restore()
    assert outcome.status == 4
    sentence = "There is no space for a snapshot of 'block/vm'. Nothing was changed\n"
    assert f"tcmu-restore: The backup host 127.0.0.1 refused: {sentence}" in outcome.out
    assert not restore.is_unfinished


def test_snapshot_elsewhere_is_not_attached(
    restore: Restore, backup: Backup, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cli.test_restore_from.URL", "iscsi://10.9.9.9/iqn.a.evil/0")
    outcome = restore()
    assert outcome.status == 4
    assert "10.9.9.9" in outcome.out
    assert not backup.snapshots
    assert not restore.is_unfinished
    assert verbs(registry) == ["prepare_snapshot"]


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (SourceLoginError("the snapshot", "authentication failed"), True),
        (SourceUnreachableError("the snapshot", "no route"), False),
    ],
)
def test_snapshot_that_cannot_be_attached(
    restore: Restore, backup: Backup, registry: FakeRegistry, error: Exception, is_final: bool
) -> None:
    registry.failures["attach"] = error
    outcome = restore()
    assert outcome.status == 4
    assert restore.is_unfinished is not is_final
    assert bool(backup.snapshots) is not is_final
    assert ("Go on with" in outcome.out) is not is_final


def test_old_snapshot_is_refused(restore: Restore, backup: Backup) -> None:
    backup.snapshots["restore-a"] = "block/vm"
    outcome = restore()
    assert outcome.status == 2
    assert "snapshot-delete restore-a" in outcome.out
    assert not restore.is_unfinished


def test_nothing_lost_nothing_done(
    restore: Restore, registry: FakeRegistry, server: SshServer
) -> None:
    registry.volumes["a"]["regions"]["lost"] = 0
    outcome = restore()
    assert outcome.status == 0
    assert "Nothing of a is lost" in outcome.out
    assert not server.commands


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a"], "no unfinished restore of 'a'"),
        (["../a", "h"], "is not a volume name"),
        (["a", "h", "--abort"], "NAME --abort"),
        (["a", "--forget"], "NAME --abort"),
        (["a", "h", "--login", "/f"], "login=/f cannot be used: it is for targetd"),
        (["a", "https://h/targetrpc", "--port", "5"], "port=5 cannot be used: it is for SSH"),
        (["a", "https://h/targetrpc"], "wants a user and a password"),
        (["a", "https://u:p@h/targetrpc", "--login", "/f"], "belong into the --login file"),
    ],
)
def test_command_lines_that_cannot_be(restore: Restore, words: list[str], sentence: str) -> None:
    outcome = restore.command_line("restore-from", *words)
    assert outcome.status == 2
    assert sentence in outcome.out + outcome.err


def test_damaged_record_is_shown_and_not_used(restore: Restore) -> None:
    restore.folder.mkdir()
    record_path(restore.folder, "a").write_text('{"version": 1}')
    outcome = restore()
    assert outcome.status == 2
    assert "restore-from.json cannot be used" in outcome.out
    found = describe_record(restore.folder, "a")
    assert found is not None
    assert "cannot be used" in found["error"]


def test_snapshot_names_are_the_same_ones_and_short() -> None:
    assert snapshot_name("vol0") == "restore-vol0"
    long = [snapshot_name("v" * 63 + letter) for letter in "ab"]
    assert long[0] != long[1]
    assert {len(name) for name in long} == {SNAPSHOT_NAME_LENGTH_MAX}
