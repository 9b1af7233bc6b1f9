"""A snapshot comes on a USB disk while the bulk link is down; the disk is pulled out in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from vagrant.errors import GuestScriptError
from vagrant.lab import Lab
from vagrant.scene import FRONT_PRIMARY, IQN

from .failures.evidence import save_evidence
from .failures.served import ServedScene

pytestmark = [pytest.mark.lab, pytest.mark.long]

MIB = 1 << 20
SIZE = 32 * MIB
STICK_SIZE = 96 * MIB
RATE = 2 * MIB
"""Bytes a second of the merge: there must be time to pull the disk out."""

FOLDER = "/run/tcmu-restore/shipped"
DEFINITION = "/etc/tcmu-restore/volumes/shipped.toml"


@dataclass(frozen=True, slots=True)
class ShippedScene(ServedScene):
    """A volume that lets carried disks be mounted, and its initiator."""

    @property
    def device(self) -> str:
        """The LUN on the initiator."""
        portal = f"{FRONT_PRIMARY}:3260"
        return f"/dev/disk/by-path/ip-{portal}-iscsi-{IQN}{self.name}-lun-0"

    def define(self, text: str) -> None:
        """Add to the volume's definition, and let the daemon read it."""
        self.lab.primary.run(
            f"cat >>{DEFINITION} <<'END'\n{text}END\nsystemctl restart tcmu-runner"
        )
        self.wait_until("served again", lambda status: status["backup"]["reachable"])

    def set_up(self) -> None:
        self.make_backup(f"head -c {SIZE} /dev/urandom >$dev")
        self.add_blank_disk()
        self.create_and_export()
        self.define(
            f"\n[shipped]\nmount = true\n\n[options]\nbackground_rate_min = {RATE}\n"
            f"background_rate_max = {RATE}\n"
        )
        node = f"iscsiadm -m node -T {IQN}{self.name} -p {FRONT_PRIMARY}:3260"
        self.lab.initiator.run(
            f"modprobe -a iscsi_tcp sd_mod\n{node} -o new >/dev/null\n{node} --login >/dev/null\n"
            f"udevadm wait --timeout=60 {self.device}"
        )

    def write_stick(self) -> str:
        """Export a snapshot to a stick on the backup machine, the last extent of it cut off; and
        another volume's. Return the stick's path there."""
        identity = self.status()["backup"]["identity"]
        self.call("PrepareSnapshot")
        stick = self.lab.backup.add_disk("stick", STICK_SIZE, is_usb=True)
        self.lab.backup.run(
            f"lab-thin snapshot {self.name} {self.name}-snap >/dev/null\n"
            f"mkfs.ext4 -q -E nodiscard {stick}; mkdir -p /mnt/usb; mount {stick} /mnt/usb\n"
            f"mkdir /mnt/usb/ours /mnt/usb/theirs; head -c {MIB} /dev/urandom >/tmp/theirs\n"
            f"tcmu-restore snapshot-export /dev/backup/{self.name}-snap /mnt/usb/ours "
            f"--backup-identity '{identity}' --compress zstd\n"
            "tcmu-restore snapshot-export /tmp/theirs /mnt/usb/theirs "
            "--backup-identity naa.5000c500/serial.other\n"
            "truncate -s -1000 /mnt/usb/ours/data-000000\n"
            "umount /mnt/usb",
            timeout_seconds=300,
        )
        return stick

    def check_equal(self) -> None:
        self.wait_until("in sync", lambda status: status["state"] == "in_sync")
        on_primary = self.digest(self.lab.primary, self.primary_disk)
        assert on_primary == self.digest(self.lab.backup, self.backup_device)


@contextmanager
def staged(lab: Lab) -> Iterator[ShippedScene]:
    """The scene with its bulk link down; after a failure, evidence is saved."""
    scene = ShippedScene(lab, "shipped", SIZE)
    try:
        scene.set_up()
        lab.primary.cut("bulk")
        yield scene
    except BaseException:
        save_evidence(lab, "shipped")
        raise
    finally:
        lab.primary.restore("bulk")
        node = f"iscsiadm -m node -T {IQN}shipped"
        lab.initiator.run(f"{node} --logout || true; {node} -o delete || true")
        lab.primary.run(
            "lab-export shipped - --remove || true; tcmu-restore delete shipped || true"
        )
        lab.primary.discard_disk("stick")


def test_a_carried_disk_is_offered_attached_pulled_out_and_used_again(lab: Lab) -> None:
    with staged(lab) as scene:
        _use_carried_disk(scene)
        _attached_by_itself(scene)


def _use_carried_disk(scene: ShippedScene) -> None:
    primary = scene.lab.primary
    scene.write_stick()
    scene.lab.backup.carry_disk("stick", primary)
    _is_offered(scene)
    _foreign_is_refused(scene)
    primary.run(_typed(scene))
    scene.call("MergeStart")
    scene.wait_until("merging", lambda status: status["counters"]["regions_merged"] > 0)
    _pulled_out_and_back(scene)
    merge = scene.wait_until("merged", lambda s: s["merge"]["state"] == "done")["merge"]
    assert merge["bad_extents"] == 1
    assert merge["report"] == "1 extent of the snapshot was bad and came from the backup"
    scene.check_equal()
    scene.call("DetachSnapshot")
    assert FOLDER not in primary.run("cat /proc/mounts")


def _is_offered(scene: ShippedScene) -> None:
    offers = scene.wait_until("offered", lambda status: bool(status["shipped"]))["shipped"]
    assert [offer["problem"] for offer in offers] == [""]
    assert offers[0]["path"].startswith(f"{FOLDER}/sd")
    assert offers[0]["path"].endswith("/ours")
    options = scene.lab.primary.run(f"grep {FOLDER} /proc/mounts").split()[3].split(",")
    assert {"ro", "nosuid", "nodev", "noexec", "nosymfollow"} <= set(options)


def _foreign_is_refused(scene: ShippedScene) -> None:
    theirs = scene.status()["shipped"][0]["path"].replace("/ours", "/theirs")
    with pytest.raises(GuestScriptError, match=r"exported from is naa\.5000c500/serial\.other"):
        scene.restore(f"attach-snapshot {scene.name} {theirs}")
    assert scene.status()["snapshot"] is None


def _typed(scene: ShippedScene) -> str:
    """Return the command that the status says to type."""
    lines = scene.restore(f"status {scene.name}").splitlines()
    (line,) = [line for line in lines if "Use it with: " in line]
    return line.partition("Use it with: ")[2]


def _pulled_out_and_back(scene: ShippedScene) -> None:
    scene.lab.primary.remove_disk("stick")
    status = scene.wait_until("waiting", lambda s: "pulled out" in (s["merge"]["reason"] or ""))
    assert status["merge"]["state"] == "running"
    assert not status["snapshot"]["reachable"]
    assert status["regions"]["lost"] > 0
    last = f"dd if={scene.device} bs=1M skip={SIZE // MIB - 2} count=1 iflag=direct status=none"
    read = scene.lab.initiator.run(f"{last} | sha256sum")
    device = scene.backup_device
    assert read == scene.lab.backup.run(f"{last.replace(scene.device, device)} | sha256sum")
    merged = scene.status()["counters"]["regions_merged"]
    scene.lab.primary.add_disk("stick", STICK_SIZE, is_usb=True)
    status = scene.wait_until("going on", lambda s: s["counters"]["regions_merged"] > merged)
    assert status["snapshot"]["reachable"]


def _attached_by_itself(scene: ShippedScene) -> None:
    """Everything is lost again, and the disk is still here when the daemon starts."""
    scene.call("DeclareLost", "a{sv}", "0")
    scene.lab.primary.run(f"sed -i 's/^mount = true/&\\nauto_attach = true/' {DEFINITION}")
    scene.define("")
    scene.wait_until(
        "merged",
        lambda s: (
            bool(s["snapshot"]) and not s["regions"]["lost"] and s["merge"]["state"] == "done"
        ),
    )
    scene.check_equal()
    scene.call("DetachSnapshot")
