"""``saveconfig`` of the real targetcli loses no volume that could not be loaded."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from targetcli_ext import saving
from tests.cli.fake_rtslib import FakeKernel
from tests.cli.test_reload import config_with_volume, make_loaded, make_skipped


@pytest.fixture
def root_module(ui: ModuleType) -> Iterator[ModuleType]:
    del ui  # imports targetcli, or skips
    module = importlib.import_module("targetcli.ui_root")
    yield module
    node: Any = module.UIRoot
    if hasattr(node, "tcmu_restore_saves"):
        node.ui_command_saveconfig = node.tcmu_restore_saves
        del node.tcmu_restore_saves


class FakeRtsRoot:
    """rtslib writes what ``dump`` returns."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def dump(self) -> dict[str, Any]:
        return self._kernel.dump()

    def save_to_file(self, file: str) -> None:
        Path(file).write_text(json.dumps(self.dump()))


class Root:
    """The root node of a shell, as far as saving goes."""

    def __init__(self, module: ModuleType, kernel: FakeKernel, path: Path) -> None:
        self.path, self.warnings = path, list[str]()
        self.node = module.UIRoot.__new__(module.UIRoot)
        log = SimpleNamespace(
            warning=self.warnings.append, info=lambda _: None, debug=lambda _: None
        )
        self.node.rtsroot = FakeRtsRoot(kernel)
        shell = SimpleNamespace(log=log, prefs={"max_backup_files": "10"})
        vars(self.node)["_shell"] = shell
        self.node.as_root = True

    def save(self, **arguments: str) -> dict[str, Any]:
        self.node.ui_command_saveconfig(str(self.path), **arguments)
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found


@pytest.fixture
def deleted(root_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    names: set[str] = set()
    saving.install(root_module, names)
    monkeypatch.setattr(saving, "defined_volumes", lambda: ["a"])
    monkeypatch.setattr(root_module.UIRoot, "shell", property(lambda self: self._shell))
    monkeypatch.setattr(root_module.UIRoot, "assert_root", lambda _: None)
    return names


@pytest.fixture
def skipped(root_module: ModuleType, tmp_path: Path, deleted: set[str]) -> Root:
    del deleted
    path = tmp_path / "saveconfig.json"
    path.write_text(json.dumps(config_with_volume()))
    kernel = FakeKernel()
    make_skipped(kernel)
    return Root(root_module, kernel, path)


def test_a_skipped_volume_stays_in_the_configuration(skipped: Root) -> None:
    assert skipped.save() == config_with_volume()
    assert "tcmu-restore reload a" in skipped.warnings[0]
    assert skipped.save() == config_with_volume()  # as when the shell saves by itself on exit


def test_it_is_left_out_when_asked(skipped: Root) -> None:
    assert skipped.save(forget_skipped="true")["storage_objects"] == []
    assert skipped.warnings == []


def test_a_volume_deleted_in_this_shell_is_gone(skipped: Root, deleted: set[str]) -> None:
    deleted.add("a")
    assert skipped.save()["storage_objects"] == []


def test_a_loaded_volume_is_saved_as_it_is(
    root_module: ModuleType, tmp_path: Path, deleted: set[str]
) -> None:
    del deleted
    kernel = FakeKernel()
    make_loaded(kernel)
    root = Root(root_module, kernel, tmp_path / "saveconfig.json")
    assert root.save() == kernel.dump()
    kernel.objects[0].attributes["cmd_time_out"] = 5
    assert root.save() == kernel.dump()
    assert root.warnings == []


def test_a_damaged_file_is_written_anew(skipped: Root) -> None:
    skipped.path.write_text("{")
    assert skipped.save()["storage_objects"] == []
    assert "cannot be used" in skipped.warnings[0]
