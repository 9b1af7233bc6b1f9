"""Which accelerator QEMU gets. The presence of /dev/kvm proves nothing.

Where it comes from a para-virtual module, QEMU accepts it and a stock kernel hangs at once with a
core at 100 %. So the kernel is booted to its first line under a short limit, once per host.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vagrant import host

_PROBE_SECONDS = 6.0  # a kernel that works prints its first line within 1 s
EMULATOR = "qemu-system-x86_64"


@dataclass(frozen=True)
class Accelerator:
    """What -accel and -cpu say, and how much slower than hardware to expect things."""

    accel: str
    cpu: str
    patience: float


KVM = Accelerator("kvm", "host", 1.0)
# A code cache of 128 MiB: the default of 1 GiB a machine is not needed. Nehalem boots faster than
# `max`, having fewer features to set up; with rdrand the random pool is ready at once.
SOFTWARE = Accelerator("tcg,thread=multi,tb-size=128", "Nehalem,+rdrand", 4.0)


def choose_accelerator(kernel: Path) -> Accelerator:
    """Return KVM if this host really boots a kernel with it; remember the answer."""
    device = Path("/dev/kvm")
    if not os.access(device, os.R_OK | os.W_OK):
        return SOFTWARE
    identity = f"{platform.release()}-{int(device.stat().st_ctime)}"
    memory = host.cache_folder() / "accelerator"
    if memory.exists():
        answer, _, known = memory.read_text().strip().partition(" ")
        if known == identity:
            return KVM if answer == "kvm" else SOFTWARE
    works = _boots_with_kvm(kernel)
    memory.write_text(f"{'kvm' if works else 'software'} {identity}\n")
    return KVM if works else SOFTWARE


def _boots_with_kvm(kernel: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="tcmu-kvm-") as folder:
        console = Path(folder) / "console"
        argv = [EMULATOR, "-M", "pc", "-accel", "kvm", "-cpu", "host", "-m", "256"]
        argv += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
        argv += ["-serial", f"file:{console}", "-kernel", str(kernel)]
        argv += ["-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]
        child = host.spawn(argv, output=subprocess.DEVNULL)
        try:
            return _prints_something(child, console)
        finally:
            child.kill()
            child.wait()


def _prints_something(child: subprocess.Popen[bytes], console: Path) -> bool:
    end = time.monotonic() + _PROBE_SECONDS
    while time.monotonic() < end:
        if console.exists() and b"Linux version" in console.read_bytes():
            return True
        if child.poll() is not None:
            return console.exists() and b"Linux version" in console.read_bytes()
        time.sleep(0.05)
    return False
