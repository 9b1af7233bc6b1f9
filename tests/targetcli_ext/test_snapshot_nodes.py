"""Snapshot commands on targetcli's own block and fileio nodes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from targetcli_ext import snapshot_node
from tests.snapshots.rig import IQN, Rig
from tests.targetcli_ext.conftest import Shell

# targetcli's, configshell's and pyparsing's own
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")

NODE = "/backstores/block/thin"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    folder = tmp_path / "host"
    folder.mkdir()
    return Rig(folder)


@pytest.fixture
def nodes(shell: Shell, ui: ModuleType, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell over the host in memory."""
    for each in (ui.UIBlockStorageObject, ui.UIFileioStorageObject):
        monkeypatch.setattr(each, "make_snapshot_host", staticmethod(lambda: rig.host))
        monkeypatch.setattr(each, "summary", lambda _: ("", True))
    monkeypatch.setattr(ui, "RTSRoot", rig.lio.RTSRoot)
    shell.shell.run_cmdline("/backstores refresh")
    return shell


def said(nodes: Shell, line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    lines: list[str] = []

    def display(text: Any, no_lf: bool = False, error: bool = False) -> None:
        del no_lf, error
        lines.append(str(text))

    monkeypatch.setattr(nodes.shell.con, "display", display)
    nodes(line)
    return "\n".join(lines)


def test_snapshot_is_made_shown_and_removed(
    nodes: Shell, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "portal=198.51.100.7:3261 extents=0:4k,1M:1M provider=lvm size=8M"
    told = said(nodes, f"{NODE} snapshot_create name=s1 {words}", monkeypatch)
    url = f"iscsi://198.51.100.7:3261/{IQN}thin:snapshot-s1/0"
    assert f"{url} --extent 0:4096 --extent 1048576:1048576" in told
    assert rig.lvm.lvs["restore-s1"].area == 8 << 20
    assert nodes.node("/backstores/block/snapshot-s1").name == "snapshot-s1"
    assert f"s1, lvm, 64 MiB, exported, 2026-11-23T12:00:00+00:00, {url}" in said(
        nodes, f"{NODE} snapshot_list", monkeypatch
    )
    none = said(nodes, "/backstores/block/classic snapshot_list", monkeypatch)
    assert none == "There are no snapshots."
    node = nodes.node(NODE)
    assert node.ui_complete_snapshot_delete({}, "s", "name") == ["s1 "]
    assert node.ui_complete_snapshot_create({}, "re", "provider") == ["reflink "]
    nodes(f"{NODE} snapshot_delete s1")
    assert rig.left() == []
    nodes(f"{NODE} snapshot_delete s1")


@pytest.mark.parametrize(
    "arguments",
    ["name=.s", "s1 extents=0", "s1 size=x", "s1 partition=x", "s1 provider=reflink"],
)
def test_bad_input_is_one_sentence_of_the_shell(
    nodes: Shell, ui: ModuleType, rig: Rig, arguments: str
) -> None:
    with pytest.raises(ui.ExecutionError) as refused:
        nodes(f"{NODE} snapshot_create {arguments}")
    assert "\n" not in str(refused.value)
    assert rig.left() == []


def test_rtslib_is_the_copy_that_targetcli_uses(ui: ModuleType) -> None:
    found = snapshot_node.rtslib_of(ui)
    assert found.RTSRoot is ui.RTSRoot
    assert found.TPG.setup


def test_file_nodes_have_the_commands_too(nodes: Shell, ui: ModuleType) -> None:
    node = nodes.node("/backstores/fileio/file")
    assert type(node) is ui.UIFileioStorageObject
    assert {"snapshot_create", "snapshot_list", "snapshot_delete"} <= set(node.list_commands())
    assert not hasattr(ui.UIRamdiskStorageObject, "ui_command_snapshot_create")
