"""Snapshots on the backup machine: real LVM, XFS reflink, LIO, mutual CHAP, a reboot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from vagrant.errors import GuestScriptError
from vagrant.lab import Lab

from .pattern import MIB, RANDOM_FILL, digest_at, write_pattern
from .refusals import not_refused

pytestmark = [pytest.mark.lab, pytest.mark.long]

SIZE = 32 * MIB
IQN = "iqn.2026-11.org.example:"
THIN, BULK = "10.77.1.1:3260", "10.77.2.1:3260"
CHAP = ("admin", "one-way-secret", "them", "mutual-secret1")

ORIGINS = {
    "block/thin": ("/dev/backup/thin", "lvm-thin", "/dev/backup/restore-of-thin"),
    "block/classic": ("/dev/backup/classic", "lvm", "/dev/backup/restore-of-classic"),
    "fileio/file": ("/srv/files/file.img", "reflink", "/srv/files/file.img.snapshot-of-file"),
}

MAKE = f"""
lab-thin create thin {SIZE}b >/dev/null
lvcreate --quiet --yes --size {SIZE}b --name classic backup >/dev/null
mkfs.xfs -q /dev/disk/by-id/virtio-files
echo /dev/disk/by-id/virtio-files /srv/files xfs defaults 0 0 >>/etc/fstab
mkdir -p /srv/files; systemctl daemon-reload; mount /srv/files
truncate -s {SIZE} /srv/files/file.img
for dev in /dev/backup/thin /dev/backup/classic /srv/files/file.img; do
{RANDOM_FILL.format(SIZE // MIB)} conv=notrunc
done
python3 - <<'END'
import warnings; warnings.simplefilter("ignore")
import rtslib_fb as rtslib
iscsi = rtslib.FabricModule("iscsi")
for name, path in {{"thin": "/dev/backup/thin", "classic": "/dev/backup/classic"}}.items():
    rtslib.BlockStorageObject(name, path)
rtslib.FileIOStorageObject("file", "/srv/files/file.img", {SIZE}, None, True)
rtslib.BlockStorageObject("plain", "/dev/disk/by-id/virtio-plain")
for each in rtslib.RTSRoot().storage_objects:
    group = rtslib.TPG(rtslib.Target(iscsi, "{IQN}" + each.name), 1)
    lun = rtslib.LUN(group, 3, each)
    rtslib.NetworkPortal(group, "10.77.1.1", 3260)
    initiator = rtslib.NodeACL(group, "INITIATOR")
    rtslib.MappedLUN(initiator, 0, lun)
    group.set_attribute("generate_node_acls", 0)
    if each.name == "thin":
        group.set_attribute("authentication", 1)
        initiator.chap_userid, initiator.chap_password = {CHAP[:2]!r}
        initiator.chap_mutual_userid, initiator.chap_mutual_password = {CHAP[2:]!r}
    else:
        group.set_attribute("authentication", 0)
    group.enable = True
rtslib.RTSRoot().save_to_file()
END
"""


@pytest.fixture(scope="module")
def backup(lab: Lab) -> Iterator[Lab]:
    """Three origins that can have snapshots, and one that cannot."""
    lab.backup.add_disk("files", 512 * MIB)
    lab.backup.add_disk("plain", 64 * MIB)
    lab.primary.run("modprobe iscsi_tcp; modprobe sd_mod")
    file = "/etc/iscsi/initiatorname.iscsi"
    initiator = lab.primary.run(f"sed -n s/^InitiatorName=//p {file}")
    lab.backup.run(MAKE.replace("INITIATOR", initiator.strip()), timeout_seconds=300)
    yield lab
    lab.primary.run("iscsiadm -m node --logout >/dev/null 2>&1 || true")


def snapshot_name(origin: str) -> str:
    return f"of-{origin.partition('/')[2]}"


def restore(lab: Lab, command: str) -> Any:
    """Run a command on the backup machine; return its JSON."""
    return json.loads(lab.backup.run(f"tcmu-restore {command} --json", timeout_seconds=180))


def create_command(origin: str, portal: str = BULK) -> str:
    return f"snapshot-create {origin} {snapshot_name(origin)} --portal {portal}"


def log_in(lab: Lab, made: dict[str, Any], chap: tuple[str, ...] = ()) -> str:
    """Log the primary in to a snapshot, and return the LUN's device."""
    portal, iqn = made["portal"], made["target"]
    names = ("username", "password", "username_in", "password_in")
    settings = {f"node.session.auth.{key}": value for key, value in zip(names, chap, strict=False)}
    if chap:
        settings["node.session.auth.authmethod"] = "CHAP"
    node = f"iscsiadm -m node -T {iqn} -p {portal}"
    lines = [f"{node} -o new >/dev/null"]
    lines += [f"{node} -o update -n {key} -v {value}" for key, value in settings.items()]
    device = f"/dev/disk/by-path/ip-{portal}-iscsi-{iqn}-lun-0"
    lines += [f"{node} --login >/dev/null", f"udevadm wait --timeout=30 {device}"]
    lab.primary.run("\n".join(lines))
    return device


def log_out(lab: Lab, made: dict[str, Any]) -> None:
    node = f"iscsiadm -m node -T {made['target']}"
    lab.primary.run(f"{node} --logout >/dev/null; {node} -o delete >/dev/null")


def check_read_only(lab: Lab, device: str) -> None:
    """The target itself refuses a write, whatever the initiator's kernel thinks of the disk."""
    write = (
        f"sg_raw --readonly --send=512 --infile=/dev/zero {device} 2a 00 00 00 00 00 00 00 01 00"
    )
    assert "Data Protect" in lab.primary.run(f"{write} 2>&1 || true")


def chap_of(origin: str) -> tuple[str, ...]:
    return CHAP if origin == "block/thin" else ()


def test_snapshots_are_exported_stay_as_they_were_and_survive_a_reboot(backup: Lab) -> None:
    lab = backup
    made, before = {}, {}
    for origin, (path, provider, device) in ORIGINS.items():
        before[origin] = lab.backup.run(digest_at(path, 0, SIZE))
        made[origin] = restore(lab, create_command(origin))
        found = made[origin]
        assert (found["provider"], found["device"], found["size"]) == (provider, device, SIZE)
        assert found["url"] == f"iscsi://{BULK}/{found['target']}/0"
        lab.backup.run(write_pattern(path, MIB, 2 * MIB, "after"))
        assert lab.backup.run(digest_at(path, 0, SIZE)) != before[origin]

    assert restore(lab, create_command("block/thin")) == made["block/thin"]
    with pytest.raises(GuestScriptError, match="authorization failure"):
        log_in(lab, made["block/thin"])
    lab.primary.run("iscsiadm -m node -o delete")
    for origin, found in made.items():
        device = log_in(lab, found, chap_of(origin))
        assert lab.primary.run(digest_at(device, 0, SIZE)) == before[origin]
        check_read_only(lab, device)
        assert lab.primary.run(digest_at(device, 0, SIZE)) == before[origin]
        log_out(lab, found)
    with pytest.raises(GuestScriptError):  # mutual: a target that cannot prove itself is left
        log_in(lab, made["block/thin"], (*CHAP[:3], "another-secret"))
    lab.primary.run("iscsiadm -m node -o delete")

    lab.backup.reboot()
    listed = {each["origin"]: each for each in restore(lab, "snapshot-list")["snapshots"]}
    assert {origin: each["state"] for origin, each in listed.items()} == dict.fromkeys(
        ORIGINS, "exported"
    )
    for origin, found in made.items():
        assert {key: listed[origin][key] for key in found} == found
        assert restore(lab, create_command(origin)) == found
        device = log_in(lab, found, chap_of(origin))
        assert lab.primary.run(digest_at(device, 0, SIZE)) == before[origin]
        check_read_only(lab, device)
        log_out(lab, found)

    for each in listed.values():
        lab.backup.run(each["remove"])
    assert nothing_is_left(lab) == ""
    assert restore(lab, "snapshot-list") == {"snapshots": []}
    assert restore(lab, "snapshot-delete of-thin") == {"snapshot": "of-thin", "existed": False}


def nothing_is_left(lab: Lab) -> str:
    """Return what there is of snapshots: volumes, files, LIO's objects, saved ones, records."""
    return lab.backup.run(
        "lvs --noheadings -o lv_name -S 'lv_tags=tcmu-restore'; ls /srv/files | grep snap || true\n"
        "find /sys/kernel/config/target -maxdepth 4 -name '*snapshot-*'\n"
        "grep snapshot- /etc/rtslib-fb-target/saveconfig.json || true\n"
        "ls /var/lib/tcmu-restore/snapshots"
    ).strip()


BAD_INPUT = {
    "unknown origin": ("snapshot-create block/nosuch a", "no storage object 'block/nosuch'"),
    "plain disk": ("snapshot-create block/plain a", "neither a logical volume of LVM nor a file"),
    "no reflink": ("snapshot-create fileio/root a", "cannot share blocks"),
    "bad name": ("snapshot-create block/thin a/b", "snapshot=a/b cannot be used"),
    "bad portal": ("snapshot-create block/thin a --portal here", "portal=here cannot be used"),
    "foreign address": (
        "snapshot-create block/thin a --portal 203.0.113.9",
        "no interface of this host",
    ),
    "used target": (f"snapshot-create block/thin a --target {IQN}thin", "a target"),
    "bad target": ("snapshot-create block/thin a --target nonsense", "not an IQN"),
    "no partition table": ("snapshot-create block/thin a --partition 1", "partx failed"),
    "extent outside": ("snapshot-create block/thin a --extent 31M:2M", "beyond the end"),
    "thin pool full": ("snapshot-create block/crowded a", "the data of the thin pool"),
    "no space": ("snapshot-create block/classic a --size 100G", "There is no space"),
    "size of a thin one": (
        "snapshot-create block/thin a --provider lvm-thin --size 1M",
        "no area of its own",
    ),
    "other provider": ("snapshot-create block/thin a --provider reflink", "does not fit"),
}

MAKE_BAD = """
lvcreate --quiet --yes --type thin-pool --size 16M --name small backup >/dev/null
lvcreate --quiet --yes --type thin --virtualsize 64M --thinpool backup/small -n crowded >/dev/null
dd if=/dev/urandom of=/dev/backup/crowded bs=512k count=31 oflag=direct status=none
truncate -s 8M /root/root.img
for each in block:crowded:/dev/backup/crowded fileio:root:/root/root.img; do
IFS=: read -r plugin name path <<<$each
lab-export $name $path --plugin $plugin --size 8M --portal 10.77.1.1 >/dev/null
done
"""


def test_bad_input_and_no_space_end_in_one_sentence_and_change_nothing(backup: Lab) -> None:
    lab = backup
    lab.backup.run(MAKE_BAD)
    state = "ls -R /sys/kernel/config/target/iscsi /sys/kernel/config/target/core | sha256sum; "
    state += "lvs -o lv_name,origin,lv_size"
    before = lab.backup.run(state)
    assert not not_refused(lab.backup, BAD_INPUT)
    assert lab.backup.run(state) == before
    assert nothing_is_left(lab) == ""


def test_snapshot_whose_area_overflows_is_broken_and_can_be_removed(backup: Lab) -> None:
    lab = backup
    restore(lab, f"{create_command('block/classic')} --size 4M")
    lab.backup.run(write_pattern("/dev/backup/classic", 0, 8 * MIB, "too much"))
    assert restore(lab, "snapshot-list")["snapshots"][0]["state"] == "broken"
    with pytest.raises(GuestScriptError, match="lost its content"):
        lab.backup.run(f"tcmu-restore {create_command('block/classic')}")
    assert restore(lab, "snapshot-delete of-classic")["existed"]
    assert nothing_is_left(lab) == ""


PARTITION = """python3 - <<'END'
import struct
entries = [struct.pack("<4xB3xII", 0x83, *each) for each in ((2048, 8192), (10240, 4096))]
with open("{}", "r+b") as disk:
    disk.seek(446)
    disk.write(b"".join(entries).ljust(64, b"\\0") + b"\\x55\\xaa")
END"""


def test_targetcli_takes_and_removes_a_snapshot_of_a_partition(backup: Lab) -> None:
    lab = backup
    lab.backup.run(PARTITION.format("/srv/files/file.img"))
    node = "targetcli-restore /backstores/fileio/file"
    lab.backup.run(f"{node} snapshot_create name=part partition=2 portal={BULK}")
    found = restore(lab, "snapshot-list fileio/file")["snapshots"][0]
    assert found["extents"] == [[10240 * 512, 4096 * 512]]
    assert found["state"] == "exported"
    assert "part" in lab.backup.run(f"{node} snapshot_list")
    lab.backup.run(f"{node} snapshot_delete part")
    assert nothing_is_left(lab) == ""
