"""create, list and delete, whole, interrupted at every step, and refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.errors import BadSettingError, OutOfRangeError, RestoreError
from tcmu_restore.snapshots.errors import (
    NoProviderError,
    OriginNotExportedError,
    SnapshotBrokenError,
    SnapshotCommandError,
    SnapshotExistsError,
    SnapshotRecordError,
    SnapshotSpaceError,
    TargetExistsError,
    UnknownOriginError,
)
from tcmu_restore.snapshots.listing import describe, list_snapshots
from tcmu_restore.snapshots.reflink import ReflinkProvider
from tcmu_restore.snapshots.verbs import CreateRequest, create, delete
from tcmu_restore.units import GiB, MiB
from tests.snapshots.rig import FOREIGN_ADDRESS, IQN, SECRETS, PowerCut, Rig


def request(origin: str = "block/thin", snapshot: str = "s1", **wish: Any) -> CreateRequest:
    return CreateRequest(origin=origin, snapshot=snapshot, **wish)


def states(rig: Rig) -> dict[str, str]:
    return {each["snapshot"]: each["state"] for each in list_snapshots(rig.host)}


def test_create_exports_read_only_like_the_origin(rig: Rig) -> None:
    made = describe(create(rig.host, request()))
    target = f"{IQN}thin:snapshot-s1"
    assert made == {
        "snapshot": "s1",
        "origin": "block/thin",
        "provider": "lvm-thin",
        "device": "/dev/vg/restore-s1",
        "size": 64 * MiB,
        "target": target,
        "lun": 0,
        "portal": "192.0.2.1:3260",
        "url": f"iscsi://192.0.2.1:3260/{target}/0",
        "extents": None,
        "created": "2026-11-23T12:00:00+00:00",
    }
    storage_object = rig.lio.objects["block", "snapshot-s1"]
    assert storage_object.readonly
    assert storage_object.wwn.endswith("-snapshot-of-serial-of-thin")
    group = rig.group(target)
    assert group.enable
    assert group.document["attributes"] == {
        "authentication": 1,
        "demo_mode_write_protect": 1,
        "prod_mode_write_protect": 1,
    }
    (initiator,) = group.document["node_acls"]
    assert SECRETS.items() <= initiator.items()
    assert initiator["mapped_luns"] == [{"index": 0, "tpg_lun": 0, "write_protect": True}]
    assert "/backstores/block/snapshot-s1" in rig.lio.saved


def test_create_again_changes_nothing_and_answers_the_same(rig: Rig) -> None:
    made = create(rig.host, request(portal="198.51.100.7:3261"))
    rig.hours, before = 5, rig.left()
    assert create(rig.host, request()) == made
    assert create(rig.host, request(portal="198.51.100.7:3261", provider="lvm-thin")) == made
    assert rig.left() == before
    assert rig.lio.objects["block", "snapshot-s1"].wwn == made.serial


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"origin": "block/classic"}, "of block/thin"),
        ({"portal": "198.51.100.8"}, "at the portal 192.0.2.1:3260"),
        ({"target": f"{IQN}other"}, "with the target"),
        ({"provider": "lvm"}, "of the kind lvm-thin"),
        ({"size": 1 * MiB}, "with an area of another size"),
        ({"extents": ((0, 512),)}, "of another data set"),
    ],
)
def test_create_of_another_snapshot_by_the_same_name_is_refused(
    rig: Rig, wish: dict[str, Any], reason: str
) -> None:
    create(rig.host, request())
    before = rig.left()
    with pytest.raises(SnapshotExistsError, match=reason):
        create(rig.host, request(**wish))
    assert rig.left() == before


def test_classic_snapshot_has_an_area_of_a_fifth_or_as_chosen(rig: Rig) -> None:
    create(rig.host, request("block/classic", "a"))
    create(rig.host, request("block/classic", "b", size=8 * MiB))
    create(rig.host, request("block/thin", "c", size=8 * MiB))  # an area: a classic one
    areas = [rig.lvm.lvs[f"restore-{name}"].area for name in "abc"]
    assert areas == [13_422_080, 8 * MiB, 8 * MiB]


def test_file_and_what_is_behind_a_cache_is_flushed_before_it_is_taken(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def note(descriptor: int) -> None:
        order.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    def take(*_: Any) -> None:
        order.append("taken")

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(ReflinkProvider, "take", take)
    create(rig.host, request("fileio/file"))
    assert str(rig.file) in order[: order.index("taken")]


def test_delete_leaves_nothing_and_is_done_once(rig: Rig) -> None:
    create(rig.host, request())
    assert delete(rig.host, "s1")
    assert rig.left() == []
    assert not delete(rig.host, "s1")


@pytest.mark.parametrize("is_reboot", [True, False])
def test_create_cut_off_anywhere_is_listed_and_finished_by_the_same_command(
    tmp_path: Path, is_reboot: bool
) -> None:
    fatal = 0
    while True:
        fatal += 1
        folder = tmp_path / str(fatal)
        folder.mkdir()
        rig = Rig(folder)
        rig.lvm.generation, rig.steps.fatal = 1, fatal
        try:
            create(rig.host, request())
        except PowerCut:
            rig.steps.fatal = None
        else:
            break
        if is_reboot:
            rig.lio.reboot()
        is_started = bool(rig.left())
        assert (states(rig) == {}) == (not is_started), fatal
        assert "broken" not in states(rig).values(), fatal
        rig.lvm.generation, rig.hours = 2, 1
        made = create(rig.host, request())
        lv = rig.lvm.lvs["restore-s1"]
        assert made.created <= f"2026-11-23T{11 + lv.taken_when}:00:00+00:00", fatal
        assert made.is_taken
        assert states(rig) == {"s1": "exported"}, fatal
        rig.lio.reboot()
        assert states(rig) == {"s1": "exported"}, fatal
        assert delete(rig.host, "s1")
        assert rig.left() == [], fatal
    assert fatal > 15, "hardly any step was interrupted"


@pytest.mark.parametrize("is_reboot", [True, False])
def test_delete_cut_off_anywhere_is_listed_and_finished_by_the_same_command(
    tmp_path: Path, is_reboot: bool
) -> None:
    fatal = 0
    while True:
        fatal += 1
        folder = tmp_path / str(fatal)
        folder.mkdir()
        rig = Rig(folder)
        create(rig.host, request())
        rig.steps.count, rig.steps.fatal = 0, fatal
        try:
            delete(rig.host, "s1")
        except PowerCut:
            rig.steps.fatal = None
        else:
            break
        if is_reboot:
            rig.lio.reboot()
        assert bool(rig.left()) == ("s1" in states(rig)), fatal
        delete(rig.host, "s1")
        assert rig.left() == [], fatal
    assert fatal > 5, "hardly any step was interrupted"


def break_nothing(rig: Rig) -> None:
    del rig


def fill_pool(rig: Rig) -> None:
    rig.lvm.lvs["pool"].data_percent = "95.00"


def fill_pool_metadata(rig: Rig) -> None:
    rig.lvm.lvs["pool"].metadata_percent = "97.5"


def fill_group(rig: Rig) -> None:
    rig.lvm.free = 1 * MiB


def unexport(rig: Rig) -> None:
    rig.lio.target_map[f"{IQN}thin"].delete()


def lose_portals(rig: Rig) -> None:
    rig.group(f"{IQN}thin").document["portals"] = []


def take_name(rig: Rig) -> None:
    words = "lvcreate --snapshot --permission r --name restore-s1 --size 1b vg/classic"
    rig.lvm.run(words.split())


def refuse_setup(rig: Rig) -> None:
    rig.lio.refuse = "Creating NetworkPortal object 192.0.2.1:3260 failed"


def refuse_lvcreate(rig: Rig) -> None:
    rig.lvm.refuse = "lvcreate"


REFUSALS: dict[str, tuple[Callable[[Rig], None], dict[str, Any], type[RestoreError], str]] = {
    "name": (break_nothing, {"snapshot": "a/b"}, BadSettingError, "letters"),
    "hidden name": (break_nothing, {"snapshot": ".."}, BadSettingError, "letters"),
    "unknown origin": (break_nothing, {"origin": "block/x"}, UnknownOriginError, "block/x"),
    "not exported": (unexport, {}, OriginNotExportedError, "export it first"),
    "no portal": (lose_portals, {}, OriginNotExportedError, "export it first"),
    "target": (break_nothing, {"target": "nonsense"}, BadSettingError, "not an IQN"),
    "own target": (break_nothing, {"target": f"{IQN}thin"}, TargetExistsError, "already"),
    "portal": (break_nothing, {"portal": "host"}, BadSettingError, "portal=host"),
    "foreign portal": (
        break_nothing,
        {"portal": FOREIGN_ADDRESS},
        BadSettingError,
        "no interface of this host",
    ),
    "extent": (break_nothing, {"extents": ((64 * MiB, 1),)}, OutOfRangeError, "beyond the end"),
    "both": (break_nothing, {"extents": ((0, 1),), "partition": 1}, BadSettingError, "as well"),
    "provider": (break_nothing, {"provider": "zfs"}, BadSettingError, "only lvm-thin"),
    "unfit": (break_nothing, {"provider": "reflink"}, NoProviderError, "does not fit"),
    "size": (
        break_nothing,
        {"provider": "lvm-thin", "size": 1},
        BadSettingError,
        "no area of its own",
    ),
    "file size": (break_nothing, {"origin": "fileio/file", "size": 1}, BadSettingError, "no area"),
    "pool": (fill_pool, {}, SnapshotSpaceError, "data of the thin pool vg/pool is 95 % full"),
    "metadata": (fill_pool_metadata, {}, SnapshotSpaceError, "metadata of the thin pool"),
    "group": (fill_group, {"origin": "block/classic"}, SnapshotSpaceError, "only 1 MiB free"),
    "too large": (break_nothing, {"size": 2 * GiB}, SnapshotSpaceError, "takes 2 GiB"),
    "name taken": (take_name, {}, NoProviderError, "exists already"),
    "LIO": (refuse_setup, {}, SnapshotCommandError, "NetworkPortal"),
    "LVM": (refuse_lvcreate, {}, SnapshotCommandError, "told to fail"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_create_that_is_refused_changes_nothing(rig: Rig, case: str) -> None:
    prepare, wish, kind, words = REFUSALS[case]
    prepare(rig)
    before = rig.left()
    with pytest.raises(kind, match=words) as refused:
        create(rig.host, request(**wish))
    assert "\n" not in str(refused.value)
    assert rig.left() == before


def test_refusal_while_an_earlier_snapshot_is_exported_again_keeps_it(rig: Rig) -> None:
    made = create(rig.host, request())
    rig.lio.target_map[made.target].delete()
    rig.lio.refuse = "no"
    with pytest.raises(SnapshotCommandError):
        create(rig.host, request())
    assert "restore-s1" in rig.lvm.lvs
    rig.lio.refuse = ""
    assert create(rig.host, request()) == made
    assert states(rig) == {"s1": "exported"}


def test_volume_that_is_not_active_after_a_reboot_is_activated_and_exported(rig: Rig) -> None:
    made = create(rig.host, request())
    del rig.lio.objects["block", "snapshot-s1"], rig.lio.target_map[made.target]
    rig.lvm.lvs["restore-s1"].is_active = False
    assert states(rig) == {"s1": "not exported"}
    assert create(rig.host, request()) == made
    assert rig.lvm.lvs["restore-s1"].is_active
    assert states(rig) == {"s1": "exported"}


@pytest.mark.parametrize("damage", ["overflow", "gone"])
def test_broken_snapshot_is_shown_not_used_and_removed(rig: Rig, damage: str) -> None:
    create(rig.host, request("block/classic"))
    if damage == "overflow":
        rig.lvm.lvs["restore-s1"].is_invalid = True
    else:
        del rig.lvm.lvs["restore-s1"]
    assert states(rig) == {"s1": "broken"}
    with pytest.raises(SnapshotBrokenError, match="snapshot-delete s1"):
        create(rig.host, request("block/classic"))
    assert delete(rig.host, "s1")
    assert rig.left() == []


def test_lun_without_a_record_is_shown_and_removed(rig: Rig) -> None:
    create(rig.host, request())
    rig.records.remove("s1")
    (orphan,) = list_snapshots(rig.host)
    assert orphan["state"] == "broken"
    assert orphan["origin"] == "block/thin"
    assert orphan["remove"] == "tcmu-restore snapshot-delete s1"
    assert delete(rig.host, "s1")
    assert rig.left() == []


def test_volume_of_somebody_else_is_never_removed(rig: Rig) -> None:
    create(rig.host, request())
    rig.lvm.lvs["restore-s1"].tags = ""
    with pytest.raises(SnapshotCommandError, match="was not made here"):
        delete(rig.host, "s1")
    assert "restore-s1" in rig.lvm.lvs


def test_target_with_a_lun_of_somebody_else_is_not_removed(rig: Rig) -> None:
    made = create(rig.host, request())
    luns = rig.group(made.target).document["luns"]
    luns.append({"index": 1, "storage_object": "/backstores/block/classic"})
    with pytest.raises(SnapshotCommandError, match="LUNs of others"):
        delete(rig.host, "s1")
    assert made.target in rig.lio.target_map


def test_list_is_of_one_origin_if_asked(rig: Rig) -> None:
    create(rig.host, request("block/thin", "b"))
    create(rig.host, request("block/classic", "a"))
    assert [each["snapshot"] for each in list_snapshots(rig.host)] == ["a", "b"]
    assert [each["snapshot"] for each in list_snapshots(rig.host, "block/thin")] == ["b"]


def test_portal_of_an_own_link_is_covered_by_one_on_every_address(rig: Rig) -> None:
    rig.group(f"{IQN}classic").document["portals"] = [{"ip_address": "0.0.0.0", "port": 3260}]
    made = create(rig.host, request(portal="198.51.100.7"))
    assert made.url.startswith("iscsi://198.51.100.7:3260/")
    (portal,) = rig.group(made.target).document["portals"]
    assert portal["ip_address"] == "0.0.0.0"


def test_initiator_that_does_not_see_the_origin_sees_no_snapshot(rig: Rig) -> None:
    group = rig.group(f"{IQN}thin")
    other = {"node_wwn": f"{IQN}other", "mapped_luns": [{"index": 0, "tpg_lun": 4}]}
    group.document["node_acls"].append(other)
    made = create(rig.host, request())
    seen = {
        each["node_wwn"]: len(each["mapped_luns"])
        for each in rig.group(made.target).document["node_acls"]
    }
    assert seen == {f"{IQN}primary": 1, f"{IQN}other": 0}


def test_target_is_chosen_or_made_of_the_origins(rig: Rig) -> None:
    assert create(rig.host, request(snapshot="A_b")).target == f"{IQN}thin:snapshot-a-b"
    assert create(rig.host, request(snapshot="x", target=f"{IQN}Own")).target == f"{IQN}own"


def test_damaged_record_is_named(rig: Rig) -> None:
    create(rig.host, request())
    (rig.folder / "records/s1.json").write_text("{")
    for verb in (
        lambda: list_snapshots(rig.host),
        lambda: delete(rig.host, "s1"),
        lambda: create(rig.host, request()),
    ):
        with pytest.raises(SnapshotRecordError, match=r"s1\.json"):
            verb()
