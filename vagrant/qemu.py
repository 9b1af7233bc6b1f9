"""The command line of a machine. Pure: it starts nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vagrant.accelerator import EMULATOR, Accelerator
from vagrant.disk import Disk
from vagrant.project_image import BootFiles


@dataclass(frozen=True)
class MachineSpec:
    """What a machine is: its name, memory, and its address with prefix length on each link."""

    name: str
    addresses: Mapping[str, str]
    memory_mib: int = 384
    cpu_count: int = 1
    has_usb: bool = False


@dataclass(frozen=True)
class MachineFiles:
    """Where a machine's files and sockets are."""

    folder: Path

    @property
    def root(self) -> Path:
        """The machine's own overlay of the root image; it outlives reboots and power cuts."""
        return self.folder / "root.qcow2"

    @property
    def console(self) -> Path:
        """All that the kernel and systemd printed."""
        return self.folder / "console"

    @property
    def agent(self) -> Path:
        """The socket of the agent's port."""
        return self.folder / "agent.sock"

    @property
    def qmp(self) -> Path:
        """The socket of QEMU's control."""
        return self.folder / "qmp.sock"

    @property
    def log(self) -> Path:
        """What QEMU itself says."""
        return self.folder / "qemu.log"


def mac_address(machine: str, link: str) -> str:
    """Return an address that is stable and unique within a lab."""
    octets = hashlib.sha256(f"{machine}/{link}".encode()).digest()[:3]
    return "52:54:00:" + ":".join(f"{octet:02x}" for octet in octets)


def build_command(
    spec: MachineSpec,
    files: MachineFiles,
    *,
    boot: BootFiles,
    accelerator: Accelerator,
    taps: Mapping[str, str],
    disks: Sequence[Disk],
) -> list[str]:
    """Return the words that start QEMU for one boot of a machine."""
    command = [EMULATOR, "-M", "pc", "-accel", accelerator.accel, "-cpu", accelerator.cpu]
    command += ["-smp", str(spec.cpu_count), "-m", str(spec.memory_mib)]
    command += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    command += ["-serial", f"file:{files.console}"]
    command += ["-kernel", str(boot.kernel), "-initrd", str(boot.initrd)]
    command += ["-append", kernel_command_line(spec)]
    # Flushes count here: qcow2 keeps its tables in QEMU's memory until one comes, and a power cut
    # is a SIGKILL of QEMU.
    command += ["-drive", f"file={files.root},if=none,id=root,format=qcow2,cache=writeback"]
    command += ["-device", "virtio-blk-pci,drive=root"]
    command += ["-device", "virtio-serial-pci"]
    command += ["-chardev", f"socket,id=agent,path={files.agent},server=on,wait=off"]
    command += ["-device", "virtserialport,chardev=agent,name=lab"]
    command += ["-qmp", f"unix:{files.qmp},server=on,wait=off"]
    for link, tap in taps.items():
        command += ["-netdev", f"tap,ifname={tap},script=no,downscript=no,id={link}"]
        mac = mac_address(spec.name, link)
        command += ["-device", f"virtio-net-pci,netdev={link},id=nic-{link},mac={mac}"]
    if spec.has_usb:
        command += ["-device", "qemu-xhci,id=usb"]
    for disk in disks:
        command += ["-blockdev", json.dumps(disk.block_node())]
        command += ["-device", json.dumps(disk.device())]
    return command


def kernel_command_line(spec: MachineSpec) -> str:
    """Return what the kernel, systemd and the lab's own network script are told."""
    machine_id = hashlib.sha256(spec.name.encode()).hexdigest()[:32]
    links = ",".join(
        f"{link}@{mac_address(spec.name, link)}@{address}"
        for link, address in spec.addresses.items()
    )
    words = [
        "console=ttyS0 quiet systemd.show_status=no",
        "mitigations=off audit=0 lsm=capability net.ifnames=0 panic=-1",
        "tsc=reliable no_timer_check random.trust_cpu=on",
        f"systemd.hostname={spec.name} systemd.machine_id={machine_id}",
        f"lab.net={links}",
    ]
    frequency = _host_tsc_khz()
    if frequency is not None:
        words.append(f"tsc_early_khz={frequency}")  # calibration fails on a busy host
    return " ".join(words)


def _host_tsc_khz() -> int | None:
    found = re.search(r"cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text())
    return int(float(found.group(1)) * 1000) if found else None
