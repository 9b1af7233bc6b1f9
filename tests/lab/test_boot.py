"""A volume's life on real kernels: boot, not opening at boot, growing, and being handed over."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from vagrant.agent import Job
from vagrant.errors import LabError
from vagrant.lab import Lab
from vagrant.scene import IQN

from .failures.served import ServedScene
from .pattern import MIB, RANDOM_FILL

pytestmark = [pytest.mark.lab, pytest.mark.long]

SIZE = 64 * MIB
GROWN = 80 * MIB
BLOCKS = 2048
"""Of 4 KiB at the beginning of the LUN, for the load."""

BULK_BITS_PER_SECOND = 8_000_000
"""Slow enough that a merge takes a minute: time to reboot in its middle."""

SAVED = "/etc/rtslib-fb-target/saveconfig.json"
SHELL = "printf 'cd /\\nexit\\n' | "


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[ServedScene]:
    """A volume with an ACL for the initiator."""
    scene = ServedScene(lab, "boot", SIZE)
    fill = f"{RANDOM_FILL.format(SIZE // MIB)}\nlab-verify fill $dev {BLOCKS}"
    scene.make_backup(fill)
    scene.add_blank_disk()
    scene.create_volume()
    scene.export_volume()
    name = lab.initiator.run("sed -n s/^InitiatorName=//p /etc/iscsi/initiatorname.iscsi").strip()
    lab.primary.run(
        f"targetcli /iscsi/{IQN}boot/tpg1/acls create {name} >/dev/null; targetcli saveconfig"
    )
    scene.take_snapshot()
    yield scene
    print(lab.primary.run("tail -n 60 /var/log/tcmu-runner.log"))


def loaded(scene: ServedScene) -> str:
    """Return the tree of the target: it has the LUN twice, also under the ACL."""
    return scene.lab.primary.run(f"targetcli ls /iscsi/{IQN}{scene.name}")


def saved_plugins(scene: ServedScene) -> list[str]:
    config = json.loads(scene.lab.primary.run(f"cat {SAVED}"))
    return [item["plugin"] for item in config["storage_objects"]]


class Load:
    """lab-load on the LUN; an I/O error or a wrong byte ends it and fails the test."""

    def __init__(self, scene: ServedScene, device: str, label: str, options: str = "") -> None:
        self.machine, self.device = scene.lab.initiator, device
        self.log = f"/run/{scene.name}.{label}"
        self.machine.run(f"lab-verify fill {device} {BLOCKS}")
        words = f"rm -f {self.log}*; exec lab-load {device} {BLOCKS} {self.log} {options}"
        self.job: Job = self.machine.start_script(words)
        self.go_on()

    def writes(self) -> int:
        if not self.job.is_running:
            raise AssertionError(f"the load ended: {self.job.wait()}")
        text = self.machine.run(f"cat {self.log}.now 2>/dev/null || echo '{{}}'")
        return int(json.loads(text).get("writes", 0))

    def go_on(self, count: int = 40, seconds: float = 120) -> None:
        start, end = self.writes(), time.monotonic() + seconds
        while self.writes() < start + count:
            assert time.monotonic() < end, "the load does not go on"
            time.sleep(0.4)

    def stop(self) -> dict[str, float]:
        self.machine.run(f"touch {self.log}.stop")
        counts: dict[str, float] = json.loads(self.job.wait().strip().splitlines()[-1])
        print(f"load: {counts}")
        return counts

    def check(self) -> None:
        words = f"lab-verify check {self.device} {BLOCKS} {self.log} acked"
        print(self.machine.run(words, timeout_seconds=200).strip())


def test_drop_ins_are_active_and_a_killed_daemon_comes_back(scene: ServedScene) -> None:
    run = scene.lab.primary.run
    ordering = run("systemctl show rtslib-fb-targetctl -p After -p Wants")
    assert ordering.count("tcmu-runner.service") == 2
    assert "/var/lib/tcmu-restore" in run("systemctl show tcmu-runner -p RequiresMountsFor")
    limits = run("systemctl show tcmu-runner -p Restart -p TimeoutStopUSec")
    assert "Restart=on-failure" in limits
    assert "TimeoutStopUSec=3min" in limits
    before = run("systemctl show tcmu-runner -p MainPID")
    run("systemctl kill --signal=KILL tcmu-runner")
    scene.wait_until("served again", lambda status: "regions" in status)
    assert run("systemctl show tcmu-runner -p MainPID") != before


def test_both_machines_are_rebooted_in_mid_merge(scene: ServedScene) -> None:
    lab = scene.lab
    lab.backup.netem("bulk", rate_bits_per_second=BULK_BITS_PER_SECOND)
    scene.call("AttachSnapshot", "sa{sv}", f"{scene.snapshot_url} 0")
    scene.call("MergeStart")
    scene.wait_until("merging", lambda status: status["counters"].get("regions_merged", 0) > 0)
    for machine in (lab.primary, lab.backup):
        machine.shut_down("reboot")
        machine.power_on()
    for machine in (lab.backup, lab.primary):
        machine.wait_until_booted()
    # nobody has typed anything: rtslib-fb-targetctl.service did it, after tcmu-runner
    status = scene.wait_until("there", lambda status: "regions" in status)
    assert status["merge"]["state"] in ("running", "done")
    assert loaded(scene).count("user/boot") == 2
    order = lab.primary.run("systemctl show rtslib-fb-targetctl tcmu-runner -p ActiveState")
    assert order.count("ActiveState=active") == 2
    scene.wait_until("merged", lambda status: status["merge"]["state"] == "done")
    scene.call("DetachSnapshot")
    assert scene.digest(lab.primary, scene.primary_disk) == scene.digest(
        lab.backup, scene.backup_device
    )


def test_a_volume_that_cannot_open_is_not_lost(scene: ServedScene) -> None:
    run = scene.lab.primary.run
    state = f"/var/lib/tcmu-restore/{scene.name}.db"
    run(f"""systemctl stop rtslib-fb-targetctl
cp {state} /root/state.good
printf damaged | dd of={state} bs=1 seek=30 conv=notrunc status=none
systemctl start rtslib-fb-targetctl""")
    assert "lun0" not in loaded(scene)
    run(f"{SHELL} targetcli-restore >/dev/null 2>&1")  # saves by itself on exit
    assert saved_plugins(scene) == ["user"]
    shown = scene.restore(f"status {scene.name}")
    assert "damaged" in shown
    assert f"tcmu-restore reload {scene.name}" in shown
    refused = run("tcmu-restore reload 2>&1 || true")
    assert refused.startswith("tcmu-restore: Cannot reload on 'boot': The state file")
    assert refused.count("\n") == 1
    run(f"cp /root/state.good {state}")
    assert "LUNs: 1" in scene.restore("reload")
    assert loaded(scene).count("user/boot") == 2
    assert run("cat /sys/kernel/config/target/core/user_*/boot/attrib/cmd_time_out") == "0\n"

    # plain targetcli saves without it; reload finds it in targetcli's own older copies
    run("systemctl stop rtslib-fb-targetctl; mv /etc/tcmu-restore/volumes/boot.toml /root/")
    run("systemctl start rtslib-fb-targetctl; mv /root/boot.toml /etc/tcmu-restore/volumes/")
    run(f"{SHELL} targetcli >/dev/null 2>&1")
    assert saved_plugins(scene) == []
    assert "backup/saveconfig-" in scene.restore(f"reload {scene.name}")
    assert loaded(scene).count("user/boot") == 2
    assert saved_plugins(scene) == ["user"]


def check_equal(scene: ServedScene, device: str) -> None:
    """The grown LUN, its disk and its backup hold the same bytes."""
    lab = scene.lab
    grown = ServedScene(lab, scene.name, GROWN)
    digest = grown.digest(lab.initiator, device)
    assert digest == grown.digest(lab.primary, scene.primary_disk)
    assert digest == grown.digest(lab.backup, scene.backup_device)


def test_resize_under_load(scene: ServedScene) -> None:
    lab = scene.lab
    device = scene.log_in()
    load = Load(scene, device, "resize")
    lab.backup.run(f"lvextend --quiet --yes -L {GROWN}b backup/boot >/dev/null")
    with pytest.raises(LabError, match="has 68157440 bytes, but the volume needs 83886080"):
        scene.restore("resize boot 2>&1")
    lab.primary.grow_disk(scene.name, GROWN + MIB)
    assert f"boot has {GROWN} bytes" in scene.restore("resize boot")
    load.go_on()
    lab.initiator.run("iscsiadm -m session --rescan >/dev/null")
    assert lab.initiator.run(f"blockdev --getsize64 {device}").strip() == str(GROWN)
    assert str(GROWN) in lab.primary.run(f"cat {SAVED}")
    load.stop()
    load.check()
    lab.initiator.run(f"dd if={device} of=/dev/null bs=1M iflag=direct status=none; sync")
    scene.wait_until("in sync", lambda status: status["state"] == "in_sync")
    assert scene.status()["lio_size"] == GROWN
    check_equal(scene, device)
    scene.log_out()


def identity(scene: ServedScene, device: str) -> str:
    """Return what the initiator knows the LUN by: the WWN, and the serial's page."""
    return scene.lab.initiator.run(
        f"disk=/sys/block/$(basename $(readlink -f {device}))/device\n"
        "cat $disk/wwid; tail -c +5 $disk/vpd_pg80; ls /dev/disk/by-id | grep wwn || true"
    )


def test_handover_under_load(scene: ServedScene) -> None:
    lab = scene.lab
    device = scene.log_in()
    before = identity(scene, device)
    load = Load(scene, device, "handover")
    said = scene.restore("handover boot --yes")
    assert "boot is /backstores/block/boot now; LUNs: 1." in said
    load.go_on()
    longest = load.stop()["longest_seconds"]
    print(f"handover: no I/O error; the longest wait was {longest} s")
    load.check()
    assert saved_plugins(scene) == ["block"]
    assert lab.primary.run("tcmu-restore list") == ""
    assert "boot.toml.handed-over" in lab.primary.run("ls /etc/tcmu-restore/volumes")
    tree = loaded(scene)
    assert tree.count("block/boot") == 2
    lab.initiator.run("sync")
    grown = ServedScene(lab, scene.name, GROWN)
    assert grown.digest(lab.initiator, device) == grown.digest(lab.primary, scene.primary_disk)
    scene.log_out()
    lab.primary.run("systemctl restart rtslib-fb-targetctl")  # as it is after a boot
    device = scene.log_in()
    assert identity(scene, device) == before
    load.check()

    # without closing the group a LUN that is taken away, for however short, is an I/O error
    load = Load(scene, device, "bare", "--until-error")
    tpg = f"/iscsi/{IQN}boot/tpg1"
    lab.primary.run(f"targetcli {tpg}/luns delete 0 >/dev/null")
    lab.primary.run(f"targetcli {tpg}/luns create /backstores/block/boot 0 >/dev/null")
    counts = json.loads(load.job.wait().strip().splitlines()[-1])
    assert counts["errors"]
    print(f"a LUN taken away and given back: {counts['errors']}")


def test_handover_is_undone_under_load(scene: ServedScene) -> None:
    lab = scene.lab
    scene.log_out()
    device = scene.log_in()
    before = identity(scene, device)
    load = Load(scene, device, "undo")
    said = scene.restore("handover boot --undo --yes")
    assert "boot is /backstores/user:restore/boot now; LUNs: 1." in said
    load.go_on()
    load.stop()
    load.check()
    assert identity(scene, device) == before
    assert saved_plugins(scene) == ["user"]
    # what was written meanwhile is unknown: all of it was stale, and was sent
    status = scene.wait_until("in sync", lambda status: status["state"] == "in_sync", 240)
    assert status["counters"]["regions_resynced"] >= GROWN // 4096
    lab.initiator.run("sync")
    check_equal(scene, device)
    scene.log_out()
