"""A lab: three machines on three links, as a context manager that leaves nothing behind.

    with Lab() as lab:
        lab.boot()
        print(lab.primary.run("lsblk"))

Everything is ended by its own handle when the context ends, whatever the reason, SIGTERM included.
If this process is killed outright, the kernel ends its children with it, and the next lab removes
its files.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from vagrant import host
from vagrant.accelerator import choose_accelerator
from vagrant.machine import Machine, boot_together
from vagrant.network import Network
from vagrant.ownership import owned_folder, terminated_as_interrupt
from vagrant.project_image import build_boot_files, in_use
from vagrant.provision import start_provisioning
from vagrant.qemu import MachineSpec
from vagrant.timing import StepTimer

# thin: the live link of primary and backup, impaired in tests. bulk: the fast link that is brought
# up for a merge. front: what the volume's initiators see.
LINKS = ("thin", "bulk", "front")
BACKUP = MachineSpec("backup", {"thin": "10.77.1.1/24", "bulk": "10.77.2.1/24"}, has_usb=True)
PRIMARY = MachineSpec(
    "primary",
    {"thin": "10.77.1.2/24", "bulk": "10.77.2.2/24", "front": "10.77.3.2/24"},
    memory_mib=640,
    has_usb=True,
)
INITIATOR = MachineSpec("initiator", {"front": "10.77.3.3/24"})

BACKUP_DISK_SIZE = 8 << 30  # sparse


class Lab:
    """The three machines, their links and their files."""

    backup: Machine
    primary: Machine
    initiator: Machine

    def __init__(
        self, *, with_project: bool = True, report: Callable[[str], None] | None = None
    ) -> None:
        self.timer = StepTimer(report)
        self._with_project = with_project
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        host.require_root()
        host.install_tools()
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All machines, the one that serves the others first."""
        return (self.backup, self.primary, self.initiator)

    def boot(self) -> None:
        """Boot all machines side by side and give each its role."""
        with self.timer.step("boot"):
            boot_together(*self.machines)
        with self.timer.step("provision"):
            jobs = [start_provisioning(machine) for machine in self.machines]
            for job in jobs:
                job.wait()

    def _set_up(self) -> None:
        self._stack.enter_context(terminated_as_interrupt())
        boot = build_boot_files(self.timer, with_project=self._with_project)
        self._stack.enter_context(in_use(boot))
        accelerator = choose_accelerator(boot.kernel)
        folder = self._stack.enter_context(owned_folder())
        network = Network(LINKS)
        self._stack.callback(network.close)

        def make(spec: MachineSpec) -> Machine:
            machine = Machine(
                spec, folder / spec.name, boot=boot, accelerator=accelerator, network=network
            )
            self._stack.callback(machine.close)
            return machine

        self.backup, self.primary, self.initiator = make(BACKUP), make(PRIMARY), make(INITIATOR)
        self.backup.add_disk("data", BACKUP_DISK_SIZE)
