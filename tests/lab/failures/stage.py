"""A volume to fail: disks with volatile caches, a load on the initiator, and the final accounts.

The LUN has three parts: blocks of `lab-load` at its beginning, an ext4 file system behind them, and
at the end two zones of the intent log that no load touches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from vagrant.errors import LabError
from vagrant.lab import Lab
from vagrant.scene import FRONT_PRIMARY, IQN, THIN_BACKUP
from vagrant.volatile_disk import VolatileDisk

from .evidence import check_machines_run, save_evidence
from .served import ServedScene, call_words

MIB = 1 << 20
ZONE = 4 * MIB
BLOCKS = 2 * ZONE // 4096
"""Of 4 KiB, at the beginning of the LUN."""

SPARES = ("sparea", "spareb")
"""Disks that replace a primary."""

STATE_FOLDER = "/var/lib/tcmu-restore"
STATE_DISK_SIZE = 24 * MIB


@dataclass(frozen=True, slots=True)
class Stage(ServedScene):
    """One volume, its initiator's device and file system."""

    size: int = 32 * MIB
    volatile_backup: bool = False
    short_timeouts: bool = False
    has_file_system: bool = True
    disk_name: str = ""

    @property
    def primary_disk(self) -> str:
        """The primary's disk, which may have been replaced."""
        return f"/dev/disk/by-id/virtio-{self.disk_name or self.name}"

    @property
    def backup_device(self) -> str:
        """The backup's device: a thin volume, or a disk with a volatile cache."""
        if self.volatile_backup:
            return f"/dev/disk/by-id/virtio-{self.name}"
        return f"/dev/backup/{self.name}"

    @property
    def device(self) -> str:
        """The LUN on the initiator."""
        portal = f"{FRONT_PRIMARY}:3260"
        return f"/dev/disk/by-path/ip-{portal}-iscsi-{IQN}{self.name}-lun-0"

    @property
    def folder(self) -> str:
        """Where the initiator mounts the file system."""
        return f"/mnt/{self.name}"

    @property
    def disk(self) -> VolatileDisk:
        """The primary disk, to let it fail."""
        return self.lab.primary.volatile_disk(self.disk_name or self.name)

    # --- from nothing to a mounted file system ---------------------------------------------

    def set_up(self) -> None:
        """Make the backup, the volume, and the initiator's file system."""
        if self.volatile_backup:
            self.lab.backup.add_disk(self.name, self.size, volatile=True)
            fill = ""
        else:
            fill = f"lab-thin create {self.name} {self.size}b >/dev/null\n"
        fill += f"lab-verify fill {self.backup_device} {BLOCKS}\n"
        export = f"lab-export {self.name} {self.backup_device} --portal {THIN_BACKUP} >/dev/null\n"
        filled = self.lab.backup.start_script(fill + export + "sync")
        self.lab.primary.add_disk(self.name, self.size + MIB, volatile=True)
        filled.wait()
        self.create_and_export()
        self.log_in()
        if not self.has_file_system:
            return
        options = "-E lazy_itable_init=0,lazy_journal_init=0,nodiscard"
        self.map_file_system(f"mkfs.ext4 -q {options} /dev/mapper/{self.name}")

    def map_file_system(self, then: str = "") -> None:
        """Map the middle of the LUN, do something with it, and mount the file system there."""
        sectors = (self.size - 4 * ZONE) // 512
        table = f"0 {sectors} linear {self.device} {BLOCKS * 8}"
        self.lab.initiator.run(
            f"dmsetup create {self.name} --table '{table}'\n{then}\nmkdir -p {self.folder}\n"
            f"mount /dev/mapper/{self.name} {self.folder}"
        )

    def log_in(self) -> str:
        """Log the initiator in, without asking the portal what there is."""
        node = f"iscsiadm -m node -T {IQN}{self.name} -p {FRONT_PRIMARY}:3260"
        script = f"modprobe -a iscsi_tcp sd_mod dm_mod\n{node} -o new >/dev/null\n"
        if self.short_timeouts:
            for key in ("conn[0].timeo.noop_out_interval", "conn[0].timeo.noop_out_timeout"):
                script += f"{node} -o update -n node.{key} -v 1\n"
            script += f"{node} -o update -n node.session.timeo.replacement_timeout -v 1\n"
        script += f"{node} --login >/dev/null\nudevadm wait --timeout=60 {self.device}"
        self.lab.initiator.run(script)
        return self.device

    # --- disks and snapshots -----------------------------------------------------------------

    def remove_disk(self) -> None:
        """Pull the primary disk out."""
        self.lab.primary.remove_disk(self.disk_name or self.name)

    def replace_disk(self) -> Stage:
        """Put a new disk in and give it to the volume; return the stage with that disk."""
        spare = next(name for name in SPARES if name != self.disk_name)
        after = replace(self, disk_name=spare)
        self.lab.primary.add_disk(spare, self.size + MIB, volatile=True)
        self.restore(f"replace-primary {self.name} --primary {after.primary_disk}")
        return after

    def merge(self) -> None:
        """Take a snapshot that may fill everything, and merge it to the end."""
        self.start_merge()
        self.wait_until("merged", lambda status: status["merge"]["state"] == "done")

    def start_merge(self) -> None:
        """Prepare, take and attach a snapshot, and start the merge."""
        self.call("PrepareSnapshot")
        self.take_snapshot()
        self.call("AttachSnapshot", "sa{sv}", f"{self.snapshot_url} 0")
        self.call("MergeStart")

    def drop_snapshot(self) -> None:
        """Detach the snapshot and remove it."""
        self.call("DetachSnapshot")
        self.lab.backup.run(
            f"lab-export {self.name}-snap - --remove; lab-thin remove {self.name}-snap"
        )

    # --- the accounts ------------------------------------------------------------------------

    def check_file_system(self) -> None:
        """Unmount, and let e2fsck find nothing to do."""
        script = f"umount {self.folder}; e2fsck -fn /dev/mapper/{self.name}"
        self.lab.initiator.run(script)

    def check_equal(self) -> None:
        """Read every block, wait for the resync, and compare the two sides byte by byte."""
        self.read_all()
        self.wait_until("in sync", lambda status: status["state"] == "in_sync")
        on_primary, on_backup = self.digest_both()
        assert on_primary == on_backup, "the primary and the backup differ"

    def read_all(self) -> None:
        """Read the whole LUN, so that nothing of it is lost any more."""
        dd = f"dd if={self.device} of=/dev/null bs=1M iflag=direct status=none"
        self.lab.initiator.run(dd, timeout_seconds=200)

    def digest_both(self) -> tuple[str, str]:
        """Return the digests of the primary disk and of the backup."""
        jobs = [
            machine.start_script(
                f"head -c {self.size} <(dd if={device} bs=1M iflag=direct status=none) | sha256sum"
            )
            for machine, device in (
                (self.lab.primary, self.primary_disk),
                (self.lab.backup, self.backup_device),
            )
        ]
        on_primary, on_backup = (job.wait().split()[0] for job in jobs)
        return on_primary, on_backup

    def tear_down(self) -> None:
        """Take everything away again; what is not there is no error."""
        target = f"iscsiadm -m node -T {IQN}{self.name}"
        self.lab.initiator.run(
            f"for file in /run/{self.name}.*.pid; do kill -9 $(cat $file) || true; done\n"
            f"rm -f /run/{self.name}.*; umount {self.folder} || true\n"
            f"dmsetup remove --retry {self.name} || true\n"
            f"{target} --logout || true; {target} -o delete || true"
        )
        delete = call_words("DeleteVolume", self.name)
        self.lab.primary.run(f"lab-export {self.name} - --remove\n{delete}")
        clean = f"lab-export {self.name} - --remove\n"
        if not self.volatile_backup:
            snapshot = f"{self.name}-snap"
            clean += f"if [ -e /dev/backup/{snapshot} ]; then lab-export {snapshot} - --remove\n"
            clean += f"lab-thin remove {snapshot}; fi\nlab-thin remove {self.name}\n"
        removed = self.lab.backup.start_script(clean)
        for name in (self.name, *SPARES):
            self.lab.primary.discard_disk(name)
        removed.wait()
        if self.volatile_backup:
            self.lab.backup.discard_disk(self.name)


@contextmanager
def staged(
    lab: Lab,
    name: str,
    *,
    size: int = 32 * MIB,
    volatile_backup: bool = False,
    short_timeouts: bool = False,
    has_file_system: bool = True,
) -> Iterator[Stage]:
    """A stage that is taken down at the end; after a failure, evidence is saved before."""
    keep_state_on_volatile_disk(lab)
    stage = Stage(lab, name, size, volatile_backup, short_timeouts, has_file_system)
    try:
        stage.set_up()
        yield stage
    except Exception:
        print(f"{name}: the machines' logs are in {save_evidence(lab, name)}")
        check_machines_run(lab)
        with suppress(LabError):
            stage.tear_down()
        raise
    stage.tear_down()


def keep_state_on_volatile_disk(lab: Lab) -> None:
    """Move the product's state folder to a disk whose cache a power cut loses; once a lab."""
    if lab.primary.run(f"mountpoint -q {STATE_FOLDER} && echo yes || true"):
        return
    disk = lab.primary.add_disk("state", STATE_DISK_SIZE, volatile=True)
    lab.primary.run(f"""systemctl stop tcmu-runner
udevadm wait --timeout=20 {disk}
mkfs.ext4 -q {disk}
mkdir -p {STATE_FOLDER} /mnt/state
mount {disk} /mnt/state; cp -a {STATE_FOLDER}/. /mnt/state; umount /mnt/state
echo '{disk} {STATE_FOLDER} ext4 defaults 0 0' >>/etc/fstab
mount {STATE_FOLDER}
systemctl daemon-reload; sync
systemctl start tcmu-runner""")
