"""The main job's cast on a booted lab: a backup LUN with a file system, a blank disk, a volume.

Each step is one thing an admin does; tests, the demo and the benchmarks are made of these steps.
What is measured is read inside the machines: digests with direct I/O (LIO's block backstore does
not go through the page cache of the device), traffic from the interfaces' counters.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from vagrant.lab import Lab
from vagrant.machine import Machine

IQN = "iqn.2026-11.org.example:"
THIN_BACKUP, BULK_BACKUP, FRONT_PRIMARY = "10.77.1.1", "10.77.2.1", "10.77.3.2"


@dataclass(frozen=True, slots=True)
class Scene:
    """One volume, called *name* everywhere, of *size* bytes."""

    lab: Lab
    name: str
    size: int

    @property
    def backup_device(self) -> str:
        """The thin volume on the backup machine."""
        return f"/dev/backup/{self.name}"

    @property
    def backup_url(self) -> str:
        """The live backup, over the thin link."""
        return f"iscsi://{THIN_BACKUP}/{IQN}{self.name}/0"

    @property
    def snapshot_url(self) -> str:
        """The snapshot, over the bulk link."""
        return f"iscsi://{BULK_BACKUP}/{IQN}{self.name}-snap/0"

    @property
    def primary_disk(self) -> str:
        """The primary's blank disk, by a name that a reboot keeps."""
        return f"/dev/disk/by-id/virtio-{self.name}"

    # --- the backup machine -------------------------------------------------------------

    def make_backup(self, fill: str = "") -> None:
        """Make and export the backup volume; *fill* is a script that writes to its device $dev."""
        device = self.backup_device
        script = f"lab-thin create {self.name} {self.size}b >/dev/null\ndev={device}\n{fill}\n"
        script += f"sync; blockdev --flushbufs {device}\n"
        self.lab.backup.run(script, timeout_seconds=300)
        self._export(self.name, device, THIN_BACKUP)

    def take_snapshot(self) -> None:
        """Take a snapshot of the backup and export it read-only over the bulk link."""
        snapshot = f"{self.name}-snap"
        self.lab.backup.run(f"lab-thin snapshot {self.name} {snapshot} >/dev/null")
        self._export(snapshot, f"/dev/backup/{snapshot}", BULK_BACKUP, "--read-only")

    def _export(self, name: str, device: str, portal: str, *options: str) -> None:
        words = ["lab-export", name, device, "--portal", portal, *options]
        self.lab.backup.run(shlex.join(words))

    # --- the primary machine ------------------------------------------------------------

    def add_blank_disk(self) -> None:
        """Put a new disk into the primary machine, a little larger than the volume."""
        self.lab.primary.add_disk(self.name, self.size + (1 << 20))
        self.lab.primary.run(f"udevadm wait --timeout=20 {self.primary_disk}")

    def create_volume(self) -> None:
        """Define the volume and make its backstore."""
        self.restore(f"create {self.name} --primary {self.primary_disk} --backup {self.backup_url}")

    def export_volume(self) -> None:
        """Export the volume's backstore to the initiator, and save the configuration."""
        target = f"/iscsi/{IQN}{self.name}"
        self.lab.primary.run(f"""targetcli >/dev/null 2>&1 <<'END'
/iscsi create {IQN}{self.name}
{target}/tpg1 set attribute generate_node_acls=1 cache_dynamic_acls=1
{target}/tpg1 set attribute demo_mode_write_protect=0 authentication=0
{target}/tpg1/luns create /backstores/user:restore/{self.name}
saveconfig
exit
END
targetcli ls {target} | grep lun0 >/dev/null""")

    def attach_and_merge(self) -> None:
        """Attach the snapshot and start the merge."""
        self.restore(f"attach-snapshot {self.name} {self.snapshot_url}")
        self.restore(f"merge start {self.name}")

    def restore(self, command: str) -> str:
        """Run ``tcmu-restore`` with *command* on the primary; return what it prints."""
        return self.lab.primary.run(f"tcmu-restore {command}", timeout_seconds=300)

    def status(self) -> dict[str, Any]:
        """Return the volume's status document."""
        document: dict[str, Any] = json.loads(self.restore(f"status {self.name} --json"))
        return document

    # --- the initiator machine ------------------------------------------------------------

    def log_in(self) -> str:
        """Log the initiator in; return the LUN's device."""
        portal = f"{FRONT_PRIMARY}:3260"
        device = f"/dev/disk/by-path/ip-{portal}-iscsi-{IQN}{self.name}-lun-0"
        self.lab.initiator.run(f"""modprobe iscsi_tcp; modprobe sd_mod
iscsiadm -m discovery -t st -p {portal} >/dev/null
iscsiadm -m node -T {IQN}{self.name} -p {portal} --login >/dev/null
udevadm wait --timeout=30 {device}""")
        return device

    def log_out(self) -> None:
        """Log the initiator out."""
        self.lab.initiator.run(f"iscsiadm -m node -T {IQN}{self.name} --logout >/dev/null")

    # --- what can be measured --------------------------------------------------------------

    def digest(self, machine: Machine, device: str) -> str:
        """Return the SHA-256 of the volume's bytes on *device*, read with direct I/O."""
        script = f"head -c {self.size} <(dd if={device} bs=1M iflag=direct status=none) | sha256sum"
        return machine.run(script, timeout_seconds=600).split()[0]

    def backup_commands(self) -> int:
        """Return how many SCSI commands the backup's LUN has had, by LIO's own counter."""
        path = "/sys/kernel/config/target/core/*/*/statistics/scsi_lu/num_cmds"
        script = f"for f in {path}; do case $f in */{self.name}/*) cat $f;; esac; done"
        return int(self.lab.backup.run(script).split()[0])
