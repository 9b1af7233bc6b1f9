"""A real targetcli with real configshell nodes; only the kernel is in memory.

``rtslib`` needs configfs, so the listing and the storage object class that targetcli uses are
replaced. The service behind the nodes is the real one on a bus of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from targetcli_ext import patch
from tests.cli.fake_lio import FakeLio
from tests.service.fake_registry import FakeRegistry
from tests.service.private_bus import private_bus, service_thread


@pytest.fixture
def bus_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with private_bus(tmp_path) as address:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield address


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def lio() -> FakeLio:
    return FakeLio()


@pytest.fixture
def service(bus_address: str, registry: FakeRegistry) -> Iterator[None]:
    with service_thread(registry, bus_address):
        yield


@pytest.fixture
def ui() -> ModuleType:
    """The installed targetcli's module; its D-Bus library need not be there."""
    if "gi" not in sys.modules and importlib.util.find_spec("gi") is None:
        repository = ModuleType("gi.repository")
        vars(repository)["Gio"] = ModuleType("Gio")
        sys.modules.update({"gi": ModuleType("gi"), "gi.repository": repository})
    module: ModuleType = pytest.importorskip("targetcli.ui_backstore", reason="needs targetcli")
    return module


class FakeRunner:
    """tcmu-runner's D-Bus object of one handler."""

    refusal = ""

    def CheckConfig(self, _signature: str, _config: str) -> tuple[bool, str]:  # noqa: N802
        return not self.refusal, self.refusal


@dataclass
class Shell:
    """A shell that stands at the root of the object tree."""

    root: Any
    shell: Any
    runner: FakeRunner

    def __call__(self, line: str) -> None:
        self.shell.run_cmdline(line)

    def node(self, path: str) -> Any:
        return self.root.get_node(path)


@pytest.fixture
def shell(
    ui: ModuleType,
    lio: FakeLio,
    bus_address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shell]:
    runner = FakeRunner()
    offered: list[tuple[str, FakeRunner, dict[str, Any]]] = [
        (name, runner, {}) for name in ("other", "restore")
    ]
    fake_root = type("FakeRoot", (), {"storage_objects": property(lambda _: _listed(lio))})
    monkeypatch.setattr(ui, "RTSRoot", fake_root)
    monkeypatch.setattr(ui, "UserBackedStorageObject", lio.storage_object_class)
    monkeypatch.setattr(ui.UIBackstores, "_user_backstores", lambda _: iter(offered))
    refresh = ui.UIBackstores.refresh
    patch.install(ui)
    try:
        yield make_shell(ui, tmp_path, runner)
    finally:
        ui.UIBackstores.refresh = refresh
        del ui.UIBackstores.tcmu_restore_node


def _listed(lio: FakeLio) -> list[Any]:
    for storage_object in lio.objects.values():
        storage_object.status = "activated"
    return list(lio.objects.values())


def make_shell(ui: ModuleType, tmp_path: Path, runner: FakeRunner) -> Shell:
    ui_node = importlib.import_module("targetcli.ui_node")
    # the configshell that this targetcli itself imports
    base = sys.modules[ui_node.ConfigNode.__module__.partition(".")[0]].ConfigShell
    prefs = base.default_prefs | {
        "auto_cd_after_create": False,
        "color_mode": False,
        "loglevel_console": "info",
        "logfile": None,
    }
    config_shell = type("TestShell", (base,), {"default_prefs": prefs})(str(tmp_path / "prefs"))
    root = ui_node.UINode("/", shell=config_shell)
    ui.UIBackstores(root)
    return Shell(root, config_shell, runner)
