"""What is measured with: LUNs of the primary through tcm_loop, and remote ones through open-iscsi.

tcm_loop makes a LUN of this machine a disk of this machine, with LIO and tcmu-runner between, so
that both sides of a comparison have the same transport and no network of their own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from tcmu_restore.cli import lio
from tcmu_restore.options import DBUS_MANAGER, DBUS_NAME, DBUS_PATH
from tcmu_restore.units import MiB
from vagrant.lab import Lab
from vagrant.machine import Machine
from vagrant.scene import IQN, THIN_BACKUP, Scene

_PREPARE = """modprobe -a tcm_loop sd_mod iscsi_tcp
mkdir -p /sys/kernel/config/target/loopback"""

# An I_T nexus of its own for each LUN; configfs makes one level of folders at a time.
_LOOP = """cd /sys/kernel/config/target
storage=$(echo core/user_*/{name}); [ -d "$storage" ]
base=loopback/naa.{wwn}; group=$base/tpgt_1
mkdir $base; mkdir $group; mkdir $group/lun/lun_0
echo naa.{nexus} >$group/nexus
ln -s "$PWD/$storage" $group/lun/lun_0/bench
folder=/sys/class/scsi_device/$(cat $group/address):0/device/block
until [ -d $folder ]; do sleep 0.1; done
device=/dev/$(ls $folder)
until [ -b $device ]; do sleep 0.1; done
udevadm settle --timeout=20
echo $device"""

_UNLOOP = """cd /sys/kernel/config/target/loopback
group=naa.{wwn}/tpgt_1
rm $group/lun/lun_0/bench; rmdir $group/lun/lun_0
echo NULL >$group/nexus
rmdir $group naa.{wwn}"""

_MAKE_QCOW = """mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 {disk}
mkdir -p /mnt/qcow; mount {disk} /mnt/qcow
dd if=/dev/urandom of=/mnt/qcow/raw bs=1M count={megabytes} status=none
sync
python3 - <<'END'
import rtslib_fb
storage = rtslib_fb.UserBackedStorageObject("qcow", config="qcow//mnt/qcow/raw", size={size},
    hw_max_sectors={sectors}, control="{control}")
storage.set_attribute("{timeout}", 0)
END"""

_DELETE_STORAGE = """storage=$(echo /sys/kernel/config/target/core/user_*/{name})
rmdir $storage ${{storage%/*}}
"""


def bus_call(member: str, signature: str, *arguments: str) -> str:
    """Return the words that call the service; a command line in Python takes seconds to start."""
    address = (DBUS_NAME, DBUS_PATH, DBUS_MANAGER)
    words = ("busctl", "--json=short", "--timeout=60", "call", *address, member)
    return shlex.join((*words, signature, *arguments))


def prepare(primary: Machine) -> None:
    """Load what the primary needs to be its own initiator."""
    primary.run(_PREPARE)


@contextmanager
def looped(primary: Machine, name: str) -> Iterator[str]:
    """Make a storage object a disk of the primary; yields its device."""
    tail = f"{sum(name.encode()):08x}"
    wwn, nexus = f"50014050{tail}", f"50014051{tail}"
    device = primary.run(_LOOP.format(name=name, wwn=wwn, nexus=nexus)).split()[-1]
    yield device
    primary.run(_UNLOOP.format(wwn=wwn))


@contextmanager
def volume(scene: Scene) -> Iterator[str]:
    """Make a fresh volume, all of it lost, and yield its LUN's device; later it is forgotten."""
    scene.create_volume()
    with looped(scene.lab.primary, scene.name) as device:
        yield device
    script = _DELETE_STORAGE.format(name=scene.name) + bus_call("DeleteVolume", "s", scene.name)
    scene.lab.primary.run(script)


@contextmanager
def qcow(lab: Lab, size: int) -> Iterator[str]:
    """Serve a raw file of random bytes through the stock handler, on a disk like a volume's.

    Command size and data area are as a volume has them: they are the kernel's, not the handlers'.
    """
    disk = lab.primary.add_disk("qcow", size + 64 * MiB)
    script = _MAKE_QCOW.format(
        disk=disk,
        megabytes=size // MiB,
        size=size,
        sectors=lio.max_sectors(lio.BLOCK_SIZE_DEFAULT),
        control=lio.control_string(lio.BLOCK_SIZE_DEFAULT),
        timeout=lio.COMMAND_TIMEOUT,
    )
    lab.primary.run(script, timeout_seconds=300)
    with looped(lab.primary, "qcow") as device:
        yield device
    lab.primary.run(_DELETE_STORAGE.format(name="qcow") + "umount /mnt/qcow")


@contextmanager
def backup_lun(scene: Scene) -> Iterator[str]:
    """Log the primary in to the backup itself, with open-iscsi over the thin link."""
    iqn = shlex.quote(IQN + scene.name)
    device = f"/dev/disk/by-path/ip-{THIN_BACKUP}:3260-iscsi-{IQN}{scene.name}-lun-0"
    disk = scene.lab.primary.run(f"""iscsiadm -m discovery -t st -p {THIN_BACKUP} >/dev/null
iscsiadm -m node -T {iqn} -p {THIN_BACKUP} --login >/dev/null
udevadm wait --timeout=30 {device}; readlink -f {device}""")
    yield disk.split()[-1]
    scene.lab.primary.run(f"iscsiadm -m node -T {iqn} -p {THIN_BACKUP} --logout >/dev/null")


def make_data(megabytes: int) -> str:
    """Return a script that fills the beginning of $dev with bytes that are not zero."""
    return f"dd if=/dev/urandom of=$dev bs=1M count={megabytes} oflag=direct status=none"
