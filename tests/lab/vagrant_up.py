"""`make vagrant-test`: `vagrant up` from nothing, a how-to typed over `vagrant ssh`, and all gone.

    python -m tests.lab.vagrant_up [HOWTO ...]

libvirt runs in namespaces of its own, Vagrant's home is a folder of this run, and the only thing
kept is the box in the lab's cache. Takes some minutes; the machines are emulated where KVM does
not work.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from vagrant import host
from vagrant.box import BOX_NAME, build_box, install_vagrant, pack_box
from vagrant.errors import HostCommandError, LabError
from vagrant.ownership import owned_folder, terminated_as_interrupt
from vagrant.private_libvirt import PrivateLibvirt
from vagrant.timing import StepTimer

from .howto import HOWTOS, HowToError, read_steps, run_steps
from .howto_stage import HowToStage

MACHINES = {"backup host": "backup", "initiator": "initiator"}
"""Every other place of a how-to is the primary."""

_UP_SECONDS = 1800.0
_STEP_SECONDS = 600.0


class VagrantRun:
    """Vagrant's commands, in a libvirt of their own."""

    def __init__(self, libvirt: PrivateLibvirt, folder: Path) -> None:
        self._prefix = libvirt.prefix
        self._environment = {
            "VAGRANT_HOME": str(folder / "home"),
            "VAGRANT_DOTFILE_PATH": str(folder / "machines"),
            "VAGRANT_CWD": str(host.HERE),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_BOX_UPDATE_CHECK_DISABLE": "1",
        }

    def call(self, *words: str, timeout_seconds: float = _STEP_SECONDS) -> str:
        """Run a command and return what it printed."""
        command = (*self._prefix, "vagrant", *words)
        return host.run(*command, env=self._environment, timeout_seconds=timeout_seconds)

    def show(self, *words: str) -> None:
        """Run a command whose progress is worth seeing."""
        command = [*self._prefix, "vagrant", *words]
        environment = {**os.environ, **self._environment}
        child = host.spawn(command, env=environment, output=subprocess.PIPE)
        assert child.stdout is not None
        try:
            for line in child.stdout:
                print("   |", line.decode(errors="replace").rstrip(), flush=True)
        finally:
            child.kill()
        if child.wait() != 0:
            raise HostCommandError(command, child.returncode, "see above")

    def type(self, place: str, script: str) -> str:
        """Log in at a place and type a script there; the first line that fails ends it."""
        machine = MACHINES.get(place, "primary")
        return self.call("ssh", machine, "--no-tty", "-c", f"set -e -o pipefail\n{script}")


def main() -> int:
    """Do it; the exit status is 1 when something failed."""
    names = sys.argv[1:] or ["new-disk"]
    timer = StepTimer(lambda line: print(line, flush=True))
    try:
        host.require_root()
        with timer.step("install Vagrant and libvirt"):
            install_vagrant()
        box = build_box(timer)
        with terminated_as_interrupt(), owned_folder() as folder:
            run_all(timer, box, folder, [HOWTOS / f"{name}.md" for name in names])
    except (LabError, HowToError, subprocess.TimeoutExpired) as error:
        print(f"vagrant-test: {error}", file=sys.stderr)
        return 1
    total = sum(seconds for _, seconds in timer.steps)
    print(f"vagrant-test: all is well, in {total:.0f} s; nothing is left but the box in the cache")
    return 0


def run_all(timer: StepTimer, box: Path, folder: Path, howtos: list[Path]) -> None:
    """Bring the machines up, type the how-tos, and destroy the machines."""
    with ExitStack() as stack:
        with timer.step("start libvirt"):
            libvirt = stack.enter_context(PrivateLibvirt(folder / "libvirt"))
        run = VagrantRun(libvirt, folder)
        with timer.step("vagrant box add"):
            pack_box(box, folder / "box.tar")
            run.call("box", "add", "--name", BOX_NAME, str(folder / "box.tar"))
            (folder / "box.tar").unlink()
        with timer.step("vagrant up"):
            run.show("up", "--no-tty", "--no-color")
        type_howtos(timer, run, howtos)
        with timer.step("vagrant destroy"):
            run.show("destroy", "--force", "--no-tty", "--no-color")


def type_howtos(timer: StepTimer, run: VagrantRun, howtos: list[Path]) -> None:
    """Type each how-to as it is written."""
    stage = HowToStage(run.type)
    for path in howtos:
        with timer.step(f"the how-to {path.stem}"):
            run_steps(path, read_steps(path), stage.run, stage.happen)
            print(time.strftime("%H:%M:%S"), f"{path.stem} works as written", flush=True)


if __name__ == "__main__":
    sys.exit(main())
