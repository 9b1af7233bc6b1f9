"""Bad input gets one clear sentence, the right exit status, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vagrant.errors import GuestScriptError
from vagrant.lab import Lab
from vagrant.scene import IQN, THIN_BACKUP, Scene

from .pattern import MIB
from .refusals import not_refused

pytestmark = pytest.mark.lab

SIZE = 16 * MIB

RECORD_ANOTHER_IDENTITY = """python3 - <<'END'
import asyncio, pathlib
from tcmu_restore.engine.state_db import StateDb

async def change():
    db, stored = StateDb.open(pathlib.Path("{}"))
    backup = stored.facts["backup"] | {{"identity": "naa.1"}}
    await db.commit_facts({{"backup": backup}})
    await db.close()

asyncio.run(change())
END"""


EXPORT_IMAGES = """
import os, pathlib
from tcmu_restore.cli.main import cli
cases = {{"foreign": (16, "naa.5000c500/serial.other"), "short": (8, "{identity}"),
         "cut": (16, "{identity}")}}
for name, (size, identity) in cases.items():
    folder = pathlib.Path("/root/images", name)
    folder.mkdir(parents=True)
    source = pathlib.Path("/root/images", name + ".raw")
    source.write_bytes(os.urandom(size << 20))
    arguments = ["snapshot-export", str(source), str(folder), "--backup-identity", identity]
    cli(arguments, standalone_mode=False)
    source.unlink()
os.truncate("/root/images/cut/extents.idx", 100)
"""
"""Three exported snapshots that the volume must not use."""


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    """One good volume, a CHAP-protected LUN, and disks that cannot serve."""
    scene = Scene(lab, "good", SIZE)
    scene.make_backup()
    scene.add_blank_disk()
    scene.create_volume()
    lab.backup.run(
        f"lab-thin create chap {SIZE}b; lab-export chap /dev/backup/chap --portal {THIN_BACKUP} "
        "--chap admin:right-secret-1 --mutual target:their-secret-1; "
        "lab-thin create short 8M; lab-export short /dev/backup/short --portal 10.77.2.1"
    )
    lab.primary.add_disk("small", SIZE - MIB)
    lab.primary.add_disk("used", SIZE + MIB)
    lab.primary.add_disk("spare", SIZE + MIB)
    lab.primary.run(
        "for d in small used spare; do udevadm wait /dev/disk/by-id/virtio-$d; done\n"
        "mkfs.ext4 -q /dev/disk/by-id/virtio-used; mkdir -p /mnt/used\n"
        "mount /dev/disk/by-id/virtio-used /mnt/used\n"
        "install -m600 /dev/stdin /root/wrong.toml <<'END'\n"
        'user = "admin"\npassword = "wrong-secret-1"\nEND\n'
        "install -m600 /dev/stdin /root/unproven.toml <<'END'\n"
        'user = "admin"\npassword = "right-secret-1"\n'
        'target_user = "target"\ntarget_password = "wrong-secret-1"\nEND'
    )
    identity = scene.status()["backup"]["identity"]
    lab.primary.run(f"python3 - <<'END'\n{EXPORT_IMAGES.format(identity=identity)}\nEND")
    yield scene
    lab.primary.run("umount /mnt/used")


SPARE = "--primary /dev/disk/by-id/virtio-spare"
LUN = f"--backup iscsi://{THIN_BACKUP}/{IQN}good/0"
CHAP = f"--backup iscsi://{THIN_BACKUP}/{IQN}chap/0"

CASES = {
    "unknown volume": ("attach-snapshot nosuch /dev/null", "no volume 'nosuch'"),
    "bad name": (f"create a/b {SPARE} {LUN}", "not a volume name"),
    "long name": (f"create {'x' * 65} {SPARE} {LUN}", "not a volume name"),
    "URL without a LUN": (
        f"create bad {SPARE} --backup iscsi://{THIN_BACKUP}/{IQN}good",
        "not an iSCSI LUN",
    ),
    "unknown target": (
        f"create bad {SPARE} --backup iscsi://{THIN_BACKUP}/{IQN}nosuch/0",
        "Service unavailable",  # LIO's word for an IQN that it does not serve
    ),
    "missing CHAP secret": (f"create bad {SPARE} {CHAP}", "login"),
    "wrong CHAP secret": (f"create bad {SPARE} {CHAP} --credentials /root/wrong.toml", "login"),
    "target that cannot prove itself": (
        f"create bad {SPARE} {CHAP} --credentials /root/unproven.toml",
        "login",
    ),
    "credentials that others may read": (
        f"create bad {SPARE} {CHAP} --credentials /etc/passwd",
        "make it 0600",
    ),
    "exported snapshot of another volume": (
        "attach-snapshot good /root/images/foreign",
        "exported from is naa.5000c500/serial.other",
    ),
    "exported snapshot of another size": (
        "attach-snapshot good /root/images/short",
        "8388608 bytes where 16777216",
    ),
    "exported snapshot that is cut off": (
        "attach-snapshot good /root/images/cut",
        "extents.idx is damaged",
    ),
    "folder without a snapshot": ("attach-snapshot good /root", "neither a block device nor"),
    "small primary": (
        f"create bad --primary /dev/disk/by-id/virtio-small {LUN}",
        "needs 16777216",
    ),
    "mounted primary": (f"create bad --primary /dev/disk/by-id/virtio-used {LUN}", "in use"),
    "primary of another volume": (
        f"create bad --primary /dev/disk/by-id/virtio-good {LUN}",
        "in use",
    ),
    "missing primary": (f"create bad --primary /dev/nosuch {LUN}", "cannot be used"),
    "existing volume": (f"create good {SPARE} {LUN}", "exists already"),
    "backup as its own snapshot": (
        f"attach-snapshot good iscsi://{THIN_BACKUP}/{IQN}good/0",
        "live backup itself",
    ),
    "snapshot of another size": (
        f"attach-snapshot good iscsi://10.77.2.1/{IQN}short/0",
        "8388608 bytes where 16777216",
    ),
    "merge without a snapshot": ("merge start good", "no snapshot is attached"),
    "delete in use": ("delete good", "in use"),
}


def state_of(scene: Scene) -> str:
    """Everything that bad input could have changed, but for counters of reads."""
    return scene.lab.primary.run(
        "cd /etc/tcmu-restore/volumes; sha256sum *; ls /var/lib/tcmu-restore; "
        "ls /sys/kernel/config/target/core/*/; "
        f"tcmu-restore status {scene.name} --json | python3 -c '"
        'import json, sys; s = json.load(sys.stdin); print(s["state"], s["regions"], '
        's["snapshot"], s["merge"])\''
    )


def test_bad_input_is_refused_in_one_sentence(scene: Scene) -> None:
    before = state_of(scene)
    assert not not_refused(scene.lab.primary, CASES)
    assert state_of(scene) == before


def test_an_overlong_config_string_is_refused_by_plain_targetcli(scene: Scene) -> None:
    before = state_of(scene)
    with pytest.raises(GuestScriptError):
        scene.lab.primary.run(
            f"targetcli /backstores/user:restore create name=bad size={SIZE} cfgstring={'x' * 200}"
        )
    assert state_of(scene) == before


@pytest.mark.parametrize("mode", ["newer", "identity"])
def test_a_volume_that_must_not_be_used_is_refused(scene: Scene, mode: str) -> None:
    """A state file of a newer version; a backup of another identity than recorded."""
    primary, name = scene.lab.primary, f"copy-{mode}"
    disk = "/dev/disk/by-id/virtio-spare"
    primary.run(f"tcmu-restore create {name} --primary {disk} {LUN}; targetcli saveconfig")
    primary.run(f"targetcli /backstores/user:restore delete {name}")
    state = f"/var/lib/tcmu-restore/{name}.db"
    size = f"size={SIZE}B cfgstring={name}"
    create = f"targetcli /backstores/user:restore create name={name} {size}"
    if mode == "newer":
        primary.run(f"sqlite3 {state} 'PRAGMA user_version = 99'")
        digest = primary.run(f"sha256sum {state}")
        with pytest.raises(GuestScriptError):
            primary.run(create)
        assert "schema version 99" in primary.run("tail -n 5 /var/log/tcmu-runner.log")
        assert primary.run(f"sha256sum {state}") == digest
    else:
        primary.run(RECORD_ANOTHER_IDENTITY.format(state))
        primary.run(create)  # a LUN is never kept away for its backup; it just is not used
        status = primary.run(f"sleep 2; tcmu-restore status {name}")
        assert "was recorded" in status
        primary.run(f"targetcli /backstores/user:restore delete {name}")
    primary.run(f"tcmu-restore delete {name}")


def test_a_damaged_state_file_is_refused_and_can_be_rebuilt(scene: Scene) -> None:
    primary, name = scene.lab.primary, "damaged"
    state = f"/var/lib/tcmu-restore/{name}.db"
    primary.run(f"tcmu-restore create {name} --primary /dev/disk/by-id/virtio-spare {LUN}")
    primary.run(f"targetcli /backstores/user:restore delete {name}")
    primary.run(f"truncate -s 3000 {state}; sha256sum {state} >/tmp/damaged.sha256")
    create = f"targetcli /backstores/user:restore create name={name} size={SIZE}B cfgstring={name}"
    with pytest.raises(GuestScriptError):
        primary.run(create)
    primary.run("sha256sum --check /tmp/damaged.sha256")  # refused, and not touched
    assert "damaged" in primary.run("tail -n 8 /var/log/tcmu-runner.log")
    assert "state rebuild" in primary.run(f"tcmu-restore status {name} || true")
    said = primary.run(f"tcmu-restore state rebuild {name} --yes")
    assert "is lost now" in said
    assert "given up" in said
    primary.run(create)
    primary.run(f"targetcli /backstores/user:restore delete {name}; tcmu-restore delete {name}")
    assert not primary.run(f"ls /var/lib/tcmu-restore | grep '^{name}.db$' || true").strip()
