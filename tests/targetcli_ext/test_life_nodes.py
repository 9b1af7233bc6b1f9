"""resize, protect, handover and reload on the nodes of a real targetcli."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from targetcli_ext import life_node
from tcmu_restore.cli import handover_plan, lio_restore, saved_config
from tcmu_restore.cli import lio as lio_module
from tests.cli.fake_lio import FakeLio
from tests.cli.fake_rtslib import FakeKernel
from tests.cli.test_reload import volume_object
from tests.service.fake_registry import FakeRegistry, make_status

from .conftest import Shell

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")

NODE = "/backstores/user:restore"


@pytest.fixture
def kernel(
    service: None, lio: FakeLio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> FakeKernel:
    del service
    kernel = FakeKernel()
    kernel.add_group("iqn.2026-11.org.example:t", 1)
    lio_restore.create_object(kernel.module(), volume_object())
    lio.storage_object_class("a", config="restore/a", size=4096)
    monkeypatch.setattr(lio_module, "load_rtslib_of", lambda _: kernel.module())
    monkeypatch.setattr(saved_config, "SAVE_FILES", (tmp_path / "saveconfig.json",))
    monkeypatch.setattr(lio_restore, "defined_volumes", list)
    monkeypatch.setattr(lio_restore, "has_registrations", lambda _: False)
    for function in (handover_plan.HandoverPlan.save, handover_plan.HandoverPlan.end):
        monkeypatch.setattr(function, "__defaults__", (tmp_path,))
    monkeypatch.setattr(life_node, "load_plan", lambda _: None)
    return kernel


@pytest.mark.usefixtures("kernel")
def test_protect_asks_the_service(shell: Shell, registry: FakeRegistry, ui: ModuleType) -> None:
    registry.volumes["a"] = make_status("a", mirror="async")
    shell.node(NODE).refresh()
    shell(f"{NODE}/a protect")
    shell(f"{NODE}/a protect mirror=strict")
    assert [call for call in registry.calls if call[0] == "protect"] == [
        ("protect", "a", "async"),
        ("protect", "a", "strict"),
    ]
    with pytest.raises(ui.ExecutionError, match="Unknown action 'never'"):
        shell(f"{NODE}/a protect mirror=never")


def test_resize_and_handover(
    shell: Shell, registry: FakeRegistry, kernel: FakeKernel, ui: ModuleType, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    where = {"path": str(disk), "state": "ok"}
    status = make_status("a", state="in_sync", size=4096, primary=where, restored=True)
    registry.volumes["a"] = status
    kernel.objects[0].size = 512
    shell.node(NODE).refresh()
    shell(f"{NODE}/a resize")
    assert kernel.objects[0].attributes["dev_size"] == 4096
    with pytest.raises(ui.ExecutionError, match="Add confirm=true to do it"):
        shell(f"{NODE}/a handover")
    assert [item.plugin for item in kernel.objects] == ["user"]
    kernel.closed = lambda: registry.volumes.update(
        a={"volume": "a", "state": "closed", "advice": "", "restored": True}
    )
    shell(f"{NODE}/a handover confirm=true forget=true")
    assert [item.plugin for item in kernel.objects] == ["fileio"]
    assert ("retire", "a", "True") in registry.calls


def test_reload_of_the_backstore_node(
    shell: Shell, registry: FakeRegistry, kernel: FakeKernel, tmp_path: Path, ui: ModuleType
) -> None:
    registry.volumes["a"] = {"volume": "a", "state": "closed", "advice": ""}
    lio_restore.write_config(tmp_path / "saveconfig.json", kernel.dump())
    kernel.objects[0].delete()
    shell(f"{NODE} reload a")
    assert [item.name for item in kernel.objects] == ["a"]
    with pytest.raises(ui.ExecutionError, match="There is no volume 'b'"):
        shell(f"{NODE} reload b")
