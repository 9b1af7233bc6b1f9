"""What the how-tos begin with and what happens in them, made by scripts alone.

So that the same stage serves the lab's machines and Vagrant's. Each situation takes away what the
last one left of the volume `vm01`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

SIZE = 64 << 20
_SYS_CALL = "busctl --timeout=60 call org.tcmu_restore.Service1 /org/tcmu_restore"
_MANAGER = "org.tcmu_restore.Manager1"
_IQN = "iqn.2026-11.org.example:"
_DEVICE = f"/dev/disk/by-path/ip-10.77.3.2:3260-iscsi-{_IQN}server-lun-0"
_BY_ID = "/dev/disk/by-id/virtio-"

_CLEAN_INITIATOR = f"""umount /mnt 2>/dev/null || true
iscsiadm -m node -T {_IQN}server --logout >/dev/null 2>&1 || true
iscsiadm -m node -T {_IQN}server -o delete >/dev/null 2>&1 || true
modprobe -a iscsi_tcp sd_mod"""

_REMOVE_EXPORTS = f"""cd /sys/kernel/config/target
for name in server vm01; do
  if [ -n "$(ls -d iscsi/{_IQN}$name core/*/$name 2>/dev/null)" ]; then
    lab-export $name - --remove
  fi
done
cd /"""

_CLEAN_PRIMARY = f"""umount /mnt/travel /mnt 2>/dev/null || true
echo 1 >/sys/bus/pci/rescan; udevadm settle
{_REMOVE_EXPORTS}
{_SYS_CALL} {_MANAGER} DeleteVolume s vm01 >/dev/null 2>&1 || true
for disk in disk1 disk2; do blkdiscard -z -l {SIZE + (1 << 20)} {_BY_ID}$disk; done"""

_CLEAN_BACKUP = f"""umount /mnt 2>/dev/null || true
echo InitiatorName={_IQN}backup >/etc/iscsi/initiatorname.iscsi
if [ -e /dev/backup/restore-vm01-1 ]; then tcmu-restore snapshot-delete vm01-1; fi
{_REMOVE_EXPORTS}
for name in vm01-snap vm01; do
  if [ -e /dev/backup/$name ]; then lab-thin remove $name; fi
done"""

_FILL_BACKUP = f"""lab-thin create vm01 {SIZE}b >/dev/null
mkfs.ext4 -q -E nodiscard /dev/backup/vm01
mount /dev/backup/vm01 /mnt
echo all is here >/mnt/hello
head -c 20M /dev/urandom >/mnt/data
umount /mnt"""

_EXPORT_BACKUP = f"lab-export vm01 /dev/backup/vm01 --portal 10.77.1.1 --acl {_IQN}primary"

_SERVER_TARGET = f"""targetcli >/dev/null <<'END'
set global auto_add_default_portal=false
/iscsi create {_IQN}server
/iscsi/{_IQN}server/tpg1/luns create STORAGE
/iscsi/{_IQN}server/tpg1/acls create {_IQN}initiator
/iscsi/{_IQN}server/tpg1/portals create 10.77.3.2
END
"""

_CREATE_VOLUME = (
    f"tcmu-restore create vm01 --primary {_BY_ID}disk1 --backup iscsi://10.77.1.1/{_IQN}vm01/0\n"
    + _SERVER_TARGET.replace("STORAGE", "/backstores/user:restore/vm01")
)

_MAKE_KEY = """mkdir -p -m 700 /root/.ssh
[ -e /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cat /root/.ssh/id_ed25519.pub"""

LET_IN = """rm -f /run/nologin; systemctl enable --quiet --now ssh
mkdir -p -m 700 /root/.ssh
grep -qxF '{0}' /root/.ssh/authorized_keys || echo '{0}' >>/root/.ssh/authorized_keys
cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub"""
"""Lets in on the backup host who has a public key, and prints the host's own."""

_LOG_IN = f"""iscsiadm -m discovery -t sendtargets -p 10.77.3.2 >/dev/null
iscsiadm -m node -T {_IQN}server -p 10.77.3.2 --login >/dev/null
udevadm wait --timeout=30 {_DEVICE}"""


class HowToStage:
    """Makes happen what stands in the how-tos' comments."""

    EVENTS: ClassVar[Mapping[str, str]] = {
        "a backup host": "clean",
        "a LUN without its disk": "lose_plain_disk",
        "a volume with a blank disk": "make_volume",
        "the primary may log in to the backup host": "let_in",
        "a volume in sync": "make_volume_in_sync",
        "disk1 is pulled out": "pull_out",
        "disk1 is put back": "put_back",
        "another host takes the place of the primary": "forget_primary",
    }
    """The methods, by the how-tos' words."""

    def __init__(self, run: Callable[[str, str], str]) -> None:
        """*run* takes a place and a script, as in `howto.run_steps`."""
        self._run = run

    def run(self, place: str, script: str) -> str:
        """Type a script at a place, on a screen that is wide enough for every line."""
        return self._run(place, f"export COLUMNS=160\n{script}")

    def happen(self, event: str) -> None:
        """Make an event happen."""
        getattr(self, self.EVENTS[event])()

    def clean(self) -> None:
        """Take the volume away everywhere."""
        self.run("initiator", _CLEAN_INITIATOR)
        self.run("primary", _CLEAN_PRIMARY)
        self.run("backup host", _CLEAN_BACKUP)

    def make_backup(self) -> None:
        """Begin with nothing but a backup that has a file system."""
        self.clean()
        self.run("backup host", f"{_FILL_BACKUP}\n{_EXPORT_BACKUP}")

    def lose_plain_disk(self) -> None:
        """Serve a disk as it is, and pull it out."""
        self.make_backup()
        create = f"targetcli /backstores/block create name=vm01 dev={_BY_ID}disk2 >/dev/null\n"
        self.run("primary", create + _SERVER_TARGET.replace("STORAGE", "/backstores/block/vm01"))
        self.pull_out("disk2")

    def make_volume(self) -> None:
        """Serve the volume from a blank disk."""
        self.make_backup()
        self.run("primary", _CREATE_VOLUME)

    def make_volume_in_sync(self) -> None:
        """Serve the volume, with everything local and a host that uses it."""
        self.make_volume()
        self.run("initiator", f"{_LOG_IN}\ndd if={_DEVICE} of=/dev/null bs=1M status=none")

    def let_in(self) -> None:
        """Give the primary a key, the backup host its public half, and the primary the host's."""
        key = self.run("primary", _MAKE_KEY).strip().splitlines()[-1]
        host_key = self.run("backup host", LET_IN.format(key)).strip().splitlines()[-1]
        self.run("primary", f"echo '10.77.1.1 {host_key}' >/root/.ssh/known_hosts")

    def pull_out(self, disk: str = "disk1") -> None:
        """Let a disk vanish."""
        block = f"/sys/class/block/$(basename $(readlink -f {_BY_ID}{disk}))"
        self.run("primary", f"echo 1 >{block}/device/../remove; udevadm settle; sleep 1")

    def put_back(self) -> None:
        """Let the disks that vanished return."""
        self.run("primary", "echo 1 >/sys/bus/pci/rescan; udevadm settle; sleep 1")

    def forget_primary(self) -> None:
        """Let the primary know nothing: it is another host of the same addresses."""
        self.make_volume()
        self.run("primary", _CLEAN_PRIMARY)
