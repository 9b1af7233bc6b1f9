"""The backup host's verbs: what they print, and how they end."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from tcmu_restore.cli.context import CliContext
from tcmu_restore.cli.exit_status import EXIT_STATUS, exit_status
from tcmu_restore.cli.extent import parse_extent
from tcmu_restore.cli.main import cli
from tcmu_restore.errors import RestoreError
from tcmu_restore.snapshots import errors
from tests.cli.command_line import Outcome
from tests.snapshots.rig import IQN, SECRETS, Rig

CREATED = [
    "snapshot",
    "origin",
    "provider",
    "device",
    "size",
    "target",
    "lun",
    "portal",
    "url",
    "extents",
    "created",
]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def run(rig: Rig, *arguments: str) -> Outcome:
    terminal = io.StringIO()
    context = CliContext(
        make_snapshot_host=lambda: rig.host,
        make_console=lambda: Console(file=terminal, width=200),
    )
    result = CliRunner().invoke(cli, arguments, obj=context, catch_exceptions=False)
    return Outcome(result.exit_code, result.stdout + terminal.getvalue(), result.stderr)


def run_json(rig: Rig, *arguments: str) -> Any:
    outcome = run(rig, *arguments, "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("\n") == 1
    return json.loads(outcome.out)


def test_json_is_as_documented(rig: Rig) -> None:
    words = ("--extent", "1M:4k", "--extent", "0:512", "--portal", "198.51.100.7")
    made = run_json(rig, "snapshot-create", "block/thin", "s1", *words)
    assert list(made) == CREATED
    assert made["extents"] == [[0, 512], [1 << 20, 4096]]
    assert made["url"] == f"iscsi://198.51.100.7:3260/{IQN}thin:snapshot-s1/0"
    (listed,) = run_json(rig, "snapshot-list")["snapshots"]
    assert listed == made | {"state": "exported", "remove": "tcmu-restore snapshot-delete s1"}
    assert run_json(rig, "snapshot-list", "block/classic") == {"snapshots": []}
    assert run_json(rig, "snapshot-delete", "s1") == {"snapshot": "s1", "existed": True}
    assert run_json(rig, "snapshot-delete", "s1") == {"snapshot": "s1", "existed": False}


def test_people_are_told_what_to_type_on_the_primary_and_no_secret(rig: Rig) -> None:
    outcome = run(rig, "snapshot-create", "block/thin", "s1", "--extent", "4k:8k")
    assert outcome.status == 0
    url = f"iscsi://192.0.2.1:3260/{IQN}thin:snapshot-s1/0"
    assert f"tcmu-restore attach-snapshot VOLUME {url} --extent 4096:8192\n" in outcome.out
    listed = run(rig, "snapshot-list").out
    assert url in listed
    assert "exported" in listed
    said = outcome.out + listed + run(rig, "snapshot-delete", "s1").out
    assert not any(secret in said for secret in SECRETS.values() if "secret" in secret)
    assert run(rig, "snapshot-list").out == "There are no snapshots.\n"


def test_portal_on_every_address_is_named_as_such(rig: Rig) -> None:
    rig.group(f"{IQN}thin").document["portals"] = [{"ip_address": "0.0.0.0", "port": 3260}]
    outcome = run(rig, "snapshot-create", "block/thin", "s1")
    assert "//ADDRESS:3260/" in outcome.out
    assert "ADDRESS is any of this host's" in outcome.out


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("block/thin s1 --extent 5", 2),
        ("block/thin s1 --extent 5:x", 2),
        ("block/thin s1 --partition 0", 2),
        ("block/thin s1 --size 1.5G", 2),
        ("block/nosuch s1", 2),
        ("block/classic s1 --size 1T", 4),
    ],
)
def test_bad_input_ends_in_its_status_and_changes_nothing(
    rig: Rig, words: str, status: int
) -> None:
    outcome = run(rig, "snapshot-create", *words.split())
    assert outcome.status == status
    assert outcome.out == ""
    assert rig.left() == []


def test_every_error_of_the_backup_host_has_a_status() -> None:
    classes = [
        each
        for each in vars(errors).values()
        if isinstance(each, type)
        and issubclass(each, RestoreError)
        and each.__module__ == errors.__name__
    ]
    assert len(classes) >= 10
    assert all(any(base in EXIT_STATUS for base in each.__mro__) for each in classes)
    assert exit_status(errors.SnapshotSpaceError("block/b", "full")) == 4
    assert exit_status(errors.SnapshotExistsError("s", "of block/b")) == 5


def test_extent_is_an_offset_and_a_length() -> None:
    assert parse_extent("1G:512M") == (1 << 30, 512 << 20)
    for text in ("", "5", "5:", ":5", "1:2:3", "-1:5"):
        with pytest.raises(ValueError, match=r"number of bytes|OFFSET"):
            parse_extent(text)
