"""One machine: start, stop, reboot, power cut, scripts, files, disks and links.

A machine keeps its root and its disks over reboots and power cuts; only the end of the lab removes
them. Not safe for use from several threads at once, but for `run` and `start`.
"""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from vagrant import host
from vagrant.accelerator import Accelerator
from vagrant.agent import AgentChannel, Job
from vagrant.disk_bay import DiskBay
from vagrant.errors import MachineError
from vagrant.network import Network
from vagrant.project_image import BootFiles
from vagrant.qemu import MachineFiles, MachineSpec, build_command
from vagrant.qmp import Qmp
from vagrant.volatile_disk import VolatileDisk

_BOOT_SECONDS = 30.0  # times the accelerator's patience; a boot takes 12 s in software
_SHUTDOWN_SECONDS = 20.0
_UNPLUG_SECONDS = 20.0
_CHUNK_SIZE = 256 * 1024  # of a file on its way through the agent
_CONSOLE_TAIL_SIZE = 3000


@dataclass(frozen=True)
class Counter:
    """Bytes an interface has received and sent since the machine booted."""

    received: int
    sent: int


def boot_together(*machines: Machine) -> None:
    """Boot machines side by side; return when all of them take scripts. Raises as `start` does."""
    for machine in machines:
        machine.power_on()
    for machine in machines:
        machine.wait_until_booted()


def lose_power(*machines: Machine) -> None:
    """Cut the power of all, and boot them again."""
    for machine in machines:
        machine.power_cut()
    boot_together(*machines)


class Machine:
    """A virtual machine of a lab."""

    def __init__(
        self,
        spec: MachineSpec,
        folder: Path,
        *,
        boot: BootFiles,
        accelerator: Accelerator,
        network: Network,
    ) -> None:
        self.name = spec.name
        self.spec = spec
        self._boot = boot
        self._accelerator = accelerator
        self._network = network
        self._process: subprocess.Popen[bytes] | None = None
        self._agent: AgentChannel | None = None
        self._qmp: Qmp | None = None
        folder.mkdir()
        self._files = MachineFiles(folder)
        self._disks = DiskBay(spec.name, folder)
        self._taps = {link: network.add_tap(self.name, link) for link in spec.addresses}
        backing = ("-F", "raw", "-b", boot.root_image)
        host.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, self._files.root)

    def address(self, link: str) -> str:
        """Return the machine's IP address on a link."""
        return self.spec.addresses[link].partition("/")[0]

    # Power

    def start(self) -> None:
        """Boot, and return when the machine takes scripts and systemd has settled."""
        self.power_on()
        self.wait_until_booted()

    def power_on(self) -> None:
        """Start QEMU and return at once, so that several machines boot side by side."""
        assert self._process is None, f"{self.name} is running already"
        for stale in (self._files.agent, self._files.qmp):
            stale.unlink(missing_ok=True)
        command = build_command(
            self.spec,
            self._files,
            boot=self._boot,
            accelerator=self._accelerator,
            taps=self._taps,
            disks=self._disks.plugged,
        )
        with self._files.log.open("ab") as log:
            words = [*self._network.prefix, *command]
            self._process = host.spawn(words, output=log.fileno())

    def wait_until_booted(self) -> None:
        """Wait until the machine takes scripts and systemd has settled.

        Raises:
            MachineError: it did not come up; the message has the end of its console.
        """
        limit = _BOOT_SECONDS * self._accelerator.patience
        try:
            self._wait_for_sockets(time.monotonic() + limit)
            self._qmp = Qmp(self._files.qmp)
            self._agent = AgentChannel(self.name, self._files.agent)
            self._agent.wait_until_ready(limit, lambda: self.is_running)
        except (OSError, MachineError) as error:
            said = self._files.log.read_text(errors="replace") + self.read_console()
            raise MachineError(self.name, f"did not boot: {error}", said) from error
        # "degraded" and "maintenance" end with a status of their own: a test looks at its units.
        self.run("systemctl is-system-running --wait || true", timeout_seconds=limit)

    def reboot(self) -> None:
        """Shut down in order and boot again with the same root and disks."""
        self.shut_down("reboot")
        self.start()

    def shut_down(self, verb: str = "poweroff") -> None:
        """Shut down in order; a machine that takes too long is an error."""
        assert self._process is not None
        # with systemd's messages on the console, which then names what takes long
        self.start_script(f"/usr/bin/kill -s RTMIN+20 1; systemctl {verb}")
        limit = _SHUTDOWN_SECONDS * self._accelerator.patience
        try:
            self._process.wait(limit)
        except subprocess.TimeoutExpired as error:
            what = f"did not shut down in {limit:g} s"
            raise MachineError(self.name, what, self.read_console()) from error
        self._forget_process()

    def power_cut(self) -> None:
        """Stop at once, as if the plug was pulled. What it had flushed is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget_process()
            self._disks.power_cut()

    def close(self) -> None:
        """End the machine and what serves its disks."""
        self.power_cut()
        self._disks.close()

    @property
    def is_running(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    def read_console(self, size: int = _CONSOLE_TAIL_SIZE) -> str:
        """Return the end of what the machine printed."""
        if not self._files.console.exists():
            return ""
        return self._files.console.read_text(errors="replace")[-size:]

    # Scripts and files

    def run(self, script: str, *, timeout_seconds: float = 120.0) -> str:
        """Run a script (bash -e -o pipefail) to its end and return its output.

        Raises:
            GuestScriptError: its status was not 0.
            GuestTimeoutError: it took too long, and was ended.
        """
        return self.start_script(script, timeout_seconds=timeout_seconds).wait()

    def start_script(self, script: str, *, timeout_seconds: float = 3600.0) -> Job:
        """Start a script and return at once."""
        if self._agent is None:
            raise MachineError(self.name, "it is not running")
        return self._agent.submit(script, timeout_seconds=timeout_seconds)

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file in the machine, making its folder."""
        word = shlex.quote(path)
        self.run(f'mkdir -p "$(dirname {word})"; : >{word}; chmod {mode:o} {word}')
        for start in range(0, len(content), _CHUNK_SIZE):
            text = base64.b64encode(content[start : start + _CHUNK_SIZE]).decode()
            self.run(f"base64 -d >>{word} <<'END'\n{text}\nEND")

    def get(self, path: str) -> bytes:
        """Return a file of the machine."""
        return base64.b64decode(self.run(f"base64 {shlex.quote(path)}"))

    # Disks

    def add_disk(
        self,
        name: str,
        size: int,
        *,
        honour_flush: bool = False,
        volatile: bool = False,
        is_usb: bool = False,
    ) -> str:
        """Plug in an empty disk, now or at the next start, and return its path in the machine.

        A disk of this name that was removed before comes back with its content. A volatile one
        loses at a power cut what was not flushed, and can be made to fail: see `volatile_disk`.
        """
        disk = self._disks.add(
            name, size, honour_flush=honour_flush, volatile=volatile, is_usb=is_usb
        )
        device = disk.guest_path
        if self._qmp is not None:
            self._qmp.execute("blockdev-add", **disk.block_node())
            self._qmp.execute("device_add", **disk.device())
            self.run(f"until [ -e {device} ]; do sleep 0.1; done")
        return device

    def grow_disk(self, name: str, size: int) -> None:
        """Make a disk larger while the machine uses it, as a storage array does."""
        if self._qmp is None:
            raise MachineError(self.name, "it is not running")
        node = self._disks.grow(name, size).block_node()["node-name"]
        self._qmp.execute("block_resize", **{"node-name": node, "size": size})
        device = f"/dev/disk/by-id/virtio-{name}"
        self.run(f"until [ $(blockdev --getsize64 {device}) = {size} ]; do sleep 0.1; done")

    def remove_disk(self, name: str) -> None:
        """Unplug a disk; the machine's driver fails what is under way. Its file is kept."""
        disk = self._disks[name]
        if self._qmp is not None:
            device = str(disk.device()["id"])
            self._qmp.execute("device_del", id=device)
            limit = _UNPLUG_SECONDS * self._accelerator.patience
            self._qmp.wait_for_event("DEVICE_DELETED", device=device, timeout_seconds=limit)
            self._qmp.execute("blockdev-del", **{"node-name": disk.block_node()["node-name"]})
        self._disks.remove(name)

    def carry_disk(self, name: str, other: Machine) -> str:
        """Pull a stick out and plug it into another machine; return its path there."""
        size = self._disks[name].size
        self.remove_disk(name)
        self._disks.give(name, other._disks)
        return other.add_disk(name, size, is_usb=True)

    def discard_disk(self, name: str) -> None:
        """Unplug a disk if it is plugged in, and throw it away with its content if it exists."""
        if name in self._disks:
            self.remove_disk(name)
        self._disks.discard(name)

    def volatile_disk(self, name: str) -> VolatileDisk:
        """Return the store behind a volatile disk, to look at or to let fail."""
        return self._disks.volatile(name)

    def disk_file(self, name: str) -> Path:
        """Return the host's file behind a disk, to look at or to damage."""
        return self._disks[name].path

    # Links

    def cut(self, link: str) -> None:
        """Pull the cable: no carrier, nothing passes."""
        self._set_link(link, up=False)

    def restore(self, link: str) -> None:
        """Put the cable back."""
        self._set_link(link, up=True)

    def netem(
        self,
        link: str,
        *,
        delay_ms: float = 0,
        rate_bits_per_second: int = 0,
        loss_percent: float = 0,
    ) -> None:
        """Impair what the machine sends on a link; with no argument, stop doing so."""
        words = [f"delay {delay_ms}ms"] * bool(delay_ms)
        words += [f"rate {rate_bits_per_second}bit"] * bool(rate_bits_per_second)
        words += [f"loss {loss_percent}%"] * bool(loss_percent)
        if words:
            limit = "limit 20000"  # packets: the default of 1,000 would lose some by itself
            self.run(f"tc qdisc replace dev {link} root netem {limit} {' '.join(words)}")
        else:
            self.run(f"tc qdisc del dev {link} root 2>/dev/null || true")

    def read_counter(self, link: str) -> Counter:
        """Return the bytes that have passed over a link, headers included."""
        folder = f"/sys/class/net/{link}/statistics"
        received, sent = self.run(f"cat {folder}/rx_bytes {folder}/tx_bytes").split()
        return Counter(int(received), int(sent))

    def _set_link(self, link: str, *, up: bool) -> None:
        if self._qmp is None:
            raise MachineError(self.name, "it is not running")
        self._qmp.execute("set_link", name=f"nic-{link}", up=up)

    def _wait_for_sockets(self, end: float) -> None:
        while not (self._files.qmp.exists() and self._files.agent.exists()):
            if not self.is_running:
                raise MachineError(self.name, "QEMU ended at once")
            if time.monotonic() > end:
                raise MachineError(self.name, "QEMU opened no socket")
            time.sleep(0.02)

    def _forget_process(self) -> None:
        for connection in (self._agent, self._qmp):
            if connection is not None:
                connection.close()
        self._agent = self._qmp = self._process = None
        if self._files.console.exists():
            os.replace(self._files.console, self._files.console.with_suffix(".before"))
