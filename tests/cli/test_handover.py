"""A handover in order, killed after every change to LIO and finished; and what is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tcmu_restore.cli import handover_plan, lio_restore, lio_status, saved_config
from tcmu_restore.cli import status as status_verb
from tcmu_restore.cli.client import ServiceClient
from tcmu_restore.cli.errors import HandoverError, LioError
from tcmu_restore.cli.handover import carry_out, make_handover, make_way_back
from tcmu_restore.cli.handover_plan import (
    HandoverPlan,
    begun_handovers,
    load_plan,
    undo_consequences,
)
from tests.cli.command_line import CommandLine
from tests.cli.fake_rtslib import FakeKernel
from tests.cli.test_reload import NODE, TARGET, volume_object
from tests.service.fake_registry import FakeRegistry, make_status


class FakeClient:
    """The service: volume *a*, served as long as its backstore is there."""

    def __init__(self, kernel: FakeKernel, primary: Path) -> None:
        self.kernel, self.primary = kernel, primary
        self.is_restored = True
        self.unfinished: dict[str, str] | None = None
        self.retired: list[bool] = []

    def list_volumes(self) -> list[str]:
        return [] if self.retired else ["a"]

    def status(self, name: str) -> dict[str, Any]:
        assert name == "a"
        assert not self.retired
        if any(item.plugin == "user" for item in self.kernel.objects):
            where = {"path": str(self.primary), "state": "ok"}
            more = {"restore_from": self.unfinished}
            return make_status("a", state="in_sync", primary=where, size=4096, **more)
        closed = {"volume": "a", "state": "closed", "advice": ""}
        return closed | {"restored": self.is_restored}

    def retire(self, name: str, *, forget: bool) -> None:
        assert name == "a"
        assert not any(item.plugin == "user" for item in self.kernel.objects)
        assert not any(lun.storage_object.plugin == "fileio" for lun in self.luns)
        self.retired.append(forget)

    def take_back(self, name: str) -> None:
        assert name == "a"
        assert not any(item.plugin == "fileio" for item in self.kernel.objects) or not self.retired
        self.retired.clear()

    @property
    def luns(self) -> list[Any]:
        return [lun for group in self.kernel.groups for lun in group.luns]


class Rig:
    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel()
        self.rtslib = self.kernel.module()
        made = lio_restore.create_object(self.rtslib, volume_object())
        for tag in (1, 2):
            group = self.kernel.add_group(TARGET, tag, NODE)
            lun = self.rtslib.LUN(group, 3, made, f"alias{tag}")
            self.rtslib.MappedLUN(group.node_acls[0], 7, lun, tag == 2, f"mapped{tag}")
        self.primary = folder / "disk"
        self.primary.write_bytes(bytes(8192))
        self.fake = FakeClient(self.kernel, self.primary)
        self.client = cast(ServiceClient, self.fake)
        self.before = self.kernel.dump()
        self.folder = folder
        lio_restore.defined_volumes = self.fake.list_volumes  # type: ignore[assignment]

    def plan(self) -> HandoverPlan:
        return make_handover(self.client, self.rtslib, "a", forget=False)

    def check_handed_over(self) -> None:
        expected = copy.deepcopy(self.before["targets"])
        for group in expected[0]["tpgs"]:
            group["luns"][0]["storage_object"] = "/backstores/fileio/a"
        now = self.kernel.dump()
        assert now["targets"] == expected
        (made,) = now["storage_objects"]
        assert (made["plugin"], made["name"], made["wwn"]) == ("fileio", "a", "1234")
        assert (made["dev"], made["size"]) == (str(self.primary), 4096)
        assert json.loads((self.folder / "saveconfig.json").read_text()) == now
        assert self.fake.retired == [False]
        assert begun_handovers(self.folder) == []


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(saved_config, "SAVE_FILES", (tmp_path / "saveconfig.json",))
    monkeypatch.setattr(lio_restore, "defined_volumes", lambda: ["a"])
    monkeypatch.setattr(lio_restore, "has_registrations", lambda _: False)
    for function in (HandoverPlan.save, HandoverPlan.end):
        monkeypatch.setattr(function, "__defaults__", (tmp_path,))
    for reader in (load_plan, begun_handovers):
        monkeypatch.setattr(reader, "__defaults__", (tmp_path,))
    return Rig(tmp_path)


def test_a_restored_volume_becomes_a_plain_backstore(rig: Rig) -> None:
    done = carry_out(rig.client, rig.rtslib, rig.plan())
    assert done[0].startswith("a is /backstores/fileio/a now; LUNs: 2.")
    rig.check_handed_over()
    log = rig.kernel.log
    order = ["group 1 off", "group 2 off", "delete user/a", "create fileio/a", "lun 3 fileio"]
    assert [log.index(step) for step in order] == sorted(log.index(step) for step in order)
    assert log.index("group 1 on") > log.index("lun 3 fileio")


def test_killed_after_any_change_it_is_finished_by_running_it_again(rig: Rig) -> None:
    steps = 0
    while True:
        again = Rig(rig.folder)
        plan = again.plan()
        again.kernel.steps_left = steps
        try:
            carry_out(again.client, again.rtslib, plan)
        except KeyboardInterrupt:
            again.kernel.steps_left = None
            assert begun_handovers() == ["a"]
            found = load_plan("a")
            assert found == plan
            carry_out(again.client, again.rtslib, found)
            again.check_handed_over()
            steps += 1
        else:
            break
    assert steps == 8  # two groups twice, two backstores, two LUNs


def test_killed_and_rebooted_it_is_finished_or_as_before(rig: Rig) -> None:
    """After a reboot LIO has what was saved; the volume is there unless it was put aside."""
    for steps in range(8):
        again = Rig(rig.folder)
        saved = rig.folder / "saveconfig.json"
        saved.write_text(json.dumps(again.before))
        plan = again.plan()
        again.kernel.steps_left = steps
        with pytest.raises(KeyboardInterrupt):
            carry_out(again.client, again.rtslib, plan)
        again.kernel.steps_left = None
        reboot(again, json.loads(saved.read_text()))
        served = [lun.storage_object.plugin for lun in again.fake.luns]
        # whoever is served after the volume was put aside is the plain backstore, never the volume
        assert set(served) <= ({"fileio"} if again.fake.retired else {"user"})
        found = load_plan("a")
        assert found is not None
        carry_out(again.client, again.rtslib, found)
        again.check_handed_over()


def reboot(rig: Rig, saved: dict[str, Any]) -> None:
    rig.kernel.objects.clear()
    for group in rig.kernel.groups:
        group.luns.clear()
        group.node_acls[0].mapped_luns.clear()
        group._is_enabled = True
    for item in saved["storage_objects"]:
        if item["plugin"] == "user" and rig.fake.retired:
            continue  # its definition is gone: it cannot be opened
        made = lio_restore.create_object(rig.rtslib, item)
        luns = saved_config.extract(saved, item).luns
        assert lio_restore.map_luns(rig.rtslib, luns, made) == []


def test_an_undo_makes_the_volume_again_killed_after_any_change(rig: Rig) -> None:
    steps = 0
    while True:
        again = Rig(rig.folder)
        carry_out(again.client, again.rtslib, again.plan())
        plan = make_way_back(again.rtslib, "a")
        again.kernel.steps_left = steps
        try:
            said = carry_out(again.client, again.rtslib, plan)
        except KeyboardInterrupt:
            again.kernel.steps_left = None
            found = load_plan("a")
            assert found == plan
            said = carry_out(again.client, again.rtslib, found)
        assert said[0].startswith("a is /backstores/user:restore/a now; LUNs: 2.")
        now = again.kernel.dump()
        assert now == again.before
        assert json.loads((rig.folder / "saveconfig.json").read_text()) == now
        assert again.fake.retired == []
        with pytest.raises(HandoverError, match="nothing of this name was handed over"):
            make_way_back(again.rtslib, "a")
        if again.kernel.steps_left is not None:
            break
        steps += 1
    assert steps == 9  # two groups twice, two backstores, an attribute, two LUNs


def test_an_undo_that_cannot_be_done_leaves_the_plain_backstore(rig: Rig) -> None:
    carry_out(rig.client, rig.rtslib, rig.plan())
    plan = make_way_back(rig.rtslib, "a")
    assert "SMALLER" not in " ".join(undo_consequences(plan))
    smaller = replace(plan, before={"dev": str(rig.primary)}, after={"size": 4096})
    assert "SMALLER by 4096 bytes" in " ".join(undo_consequences(smaller))
    before = rig.kernel.dump()
    rig.kernel.refuse["user"] = "No such device"
    with pytest.raises(HandoverError, match=r"No such device\. It is served as before"):
        carry_out(rig.client, rig.rtslib, plan)
    assert rig.kernel.dump() == before
    assert rig.fake.retired == [False]
    assert make_way_back(rig.rtslib, "a") == plan  # to be tried again


def test_with_an_unfinished_restore_from_nothing_is_handed_over(rig: Rig) -> None:
    rig.fake.unfinished = {"step": "delete"}
    with pytest.raises(
        HandoverError, match=r"a restore-from is not finished.* Nothing was changed"
    ):
        rig.plan()
    rig.fake.unfinished = None
    rig.plan()


@pytest.mark.parametrize("why", ["the disk is in use", "the disk failed meanwhile"])
def test_if_it_cannot_be_done_the_volume_is_served_as_before(rig: Rig, why: str) -> None:
    plan = rig.plan()
    if why == "the disk is in use":
        rig.kernel.refuse["fileio"] = "Device or resource busy"
    else:
        rig.fake.is_restored = False
    with pytest.raises(HandoverError, match="It is served as before"):
        carry_out(rig.client, rig.rtslib, plan)
    assert rig.kernel.dump() == rig.before
    assert begun_handovers() == []
    assert rig.fake.retired == []


def test_a_lun_that_was_taken_meanwhile_is_named_and_it_can_be_finished(rig: Rig) -> None:
    plan = rig.plan()
    group = rig.kernel.groups[0]
    rig.kernel.closed = lambda: rig.rtslib.LUN(
        group, 3, SimpleNamespace(plugin="block", name="other"), None
    )
    with pytest.raises(LioError, match="LUN 3 is other now"):
        carry_out(rig.client, rig.rtslib, plan)
    assert begun_handovers() == ["a"]
    rig.kernel.groups[0].luns[:] = []
    carry_out(rig.client, rig.rtslib, plan)
    rig.check_handed_over()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "restoring"}, "it is restoring, and must be in sync"),
        ({"state": "outdated"}, "it is outdated, and must be in sync"),
        ({"snapshot": {"source": "/s", "reachable": True, "reason": ""}}, "a snapshot is attached"),
        ({"verify": {"state": "running"}}, "it is being verified"),
    ],
)
@pytest.mark.usefixtures("rig")
def test_bad_input_is_one_sentence(
    command_line: CommandLine, registry: FakeRegistry, changes: dict[str, Any], words: str
) -> None:
    kernel = FakeKernel()
    command_line.rtslib = kernel.module()
    lio_restore.create_object(kernel.module(), volume_object())
    registry.volumes["a"] = make_status("a", state="in_sync") | changes
    outcome = command_line("handover", "a", "--yes")
    assert outcome.status == 5
    assert words in outcome.out
    assert outcome.out.endswith("Nothing was changed.\n")
    assert [item.plugin for item in kernel.objects] == ["user"]


def test_without_rtslib_or_backstore_it_says_so(
    rig: Rig, command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a", state="in_sync")
    assert "handover needs rtslib" in command_line("handover", "a", "--yes").out
    command_line.rtslib = FakeKernel().module()
    assert "it has no backstore in LIO" in command_line("handover", "a", "--yes").out
    command_line.rtslib = rig.rtslib
    outcome = command_line("handover", "a")  # nobody answers
    assert "handover was not confirmed; nothing was changed" in outcome.out
    assert "same serial and LUNs: 2" in outcome.out
    assert rig.kernel.dump() == rig.before


def test_status_names_the_command_that_finishes_it(
    rig: Rig, command_line: CommandLine, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.plan().save(rig.folder)
    for module in (handover_plan, lio_status, status_verb):
        monkeypatch.setattr(module, "begun_handovers", lambda: ["a"])
    assert "tcmu-restore handover a" in command_line("status", "a").out
    assert "tcmu-restore handover a" in command_line("status").out
    registry.volumes["a"] = make_status("a", state="in_sync")
    assert "tcmu-restore handover a" in command_line("status", "a").out


def test_a_damaged_plan_is_one_sentence(rig: Rig, command_line: CommandLine) -> None:
    command_line.rtslib = rig.rtslib
    for text in ("{", "[]", "{}", '{"luns": [{}], "disabled": []}'):
        (rig.folder / "a.handover").write_text(text)
        outcome = command_line("handover", "a", "--yes")
        assert outcome.status == 1
        assert "a.handover cannot be used" in outcome.out
    assert rig.kernel.dump() == rig.before


def test_protect_changes_the_policy_and_keeps_it_mirrored(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a", mirror="async")
    assert command_line("protect", "a").out == "a stays mirrored (async).\n"
    assert command_line("protect", "a", "--mirror", "strict").status == 0
    assert registry.calls[-1] == ("protect", "a", "strict")
    assert command_line("protect", "a", "--mirror", "sometimes").status == 2


def test_resize_tells_lio_and_saves(
    rig: Rig, command_line: CommandLine, registry: FakeRegistry
) -> None:
    made = rig.kernel.objects[0]
    made.size = 4096
    registry.volumes["a"] = make_status("a", size=8192)
    command_line.rtslib = rig.rtslib
    outcome = command_line("resize", "a")
    assert "a has 8192 bytes" in outcome.out
    assert "rescan" in outcome.out
    assert made.attributes["dev_size"] == 8192
    assert json.loads((rig.folder / "saveconfig.json").read_text()) == rig.kernel.dump()
    command_line.rtslib = None
    assert "set attribute dev_size=8192" in command_line("resize", "a").out
    registry.volumes["b"] = make_status("b", size=8192)
    command_line.rtslib = rig.rtslib
    assert "its backstore is not loaded" in command_line("resize", "b").out
