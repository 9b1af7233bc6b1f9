"""Everything the demo plays with, and how the stage is set before the clock starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vagrant.demo import scripts
from vagrant.demo.events import Events
from vagrant.demo.guest import LatencyProbe, StatusProbe, Targetcli, clock_ahead
from vagrant.demo.screen import Screen
from vagrant.errors import LabError
from vagrant.lab import Lab
from vagrant.scene import FRONT_PRIMARY, IQN, Scene

VOLUME = "vol0"
VOLUME_SIZE = 256 << 20
EARLIER_DISK = "earlier"

# The thin link: what a backup at another site may be reached by.
THIN_RATE_BITS = 100_000_000
THIN_DELAY_MS = 5.0  # each way


@dataclass(slots=True)
class Cast:
    """The machines, the volume and the programs that watch them."""

    scene: Scene
    screen: Screen
    events: Events
    shell: Targetcli
    latency: LatencyProbe
    status: StatusProbe
    primary_clock: float
    initiator_clock: float
    clock_error: float

    @property
    def lab(self) -> Lab:
        """The machines."""
        return self.scene.lab

    def save_logs(self, folder: Path) -> None:
        """Keep what the machines have to say, in a folder; what cannot be had is left out."""
        folder.mkdir(parents=True, exist_ok=True)
        lab = self.lab
        logs = (
            (lab.primary, "tcmu-runner.log", "cat /var/log/tcmu-runner.log"),
            (lab.primary, "targetcli.log", self.shell.show_output()),
            (lab.primary, "primary-kernel.log", "dmesg"),
            (lab.initiator, "initiator-kernel.log", "dmesg"),
        )
        for machine, name, command in logs:
            with suppress(LabError):
                (folder / name).write_text(machine.run(command, timeout_seconds=30))
        for name, log in (("latency", self.latency.log), ("status", self.status.log)):
            lines = [json.dumps(entry) + "\n" for entry in log.entries]
            (folder / f"{name}.jsonl").write_text("".join(lines))


@contextmanager
def helpers() -> Iterator[ThreadPoolExecutor]:
    """Threads that are not waited for when something fails: they end with the machines."""
    pool = ThreadPoolExecutor()
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def set_stage(lab: Lab, screen: Screen) -> Cast:
    """Make the backup, and a server whose disk then dies; return when all is ready to restore."""
    scene = Scene(lab, VOLUME, VOLUME_SIZE)
    events = Events(lambda name: screen.say(name, "bold"))
    for machine in (lab.backup, lab.primary):
        machine.netem("thin", delay_ms=THIN_DELAY_MS, rate_bits_per_second=THIN_RATE_BITS)
    with helpers() as pool:
        with screen.phase("a thin volume with ext4 and files, exported by the backup machine"):
            backup: Future[None] = pool.submit(scene.make_backup, scripts.FILL)
            earlier_lun = _serve_earlier_disk(scene)
            shell = Targetcli(lab.primary)
            backup.result()
        with screen.phase("the primary's disk dies and a blank one takes its place"):
            _replace_disk(scene, shell, earlier_lun)
        events.note("disk replaced")
    with screen.phase("probes get ready"):
        return _make_cast(scene, screen, events, shell)


def _make_cast(scene: Scene, screen: Screen, events: Events, shell: Targetcli) -> Cast:
    lab = scene.lab
    status = StatusProbe(lab.primary, scene.name)
    latency = LatencyProbe(lab.initiator)
    latency.wait_until_waiting()
    primary_clock, primary_error = clock_ahead(lab.primary)
    initiator_clock, initiator_error = clock_ahead(lab.initiator)
    return Cast(
        scene=scene,
        screen=screen,
        events=events,
        shell=shell,
        latency=latency,
        status=status,
        primary_clock=primary_clock,
        initiator_clock=initiator_clock,
        clock_error=primary_error + initiator_error,
    )


def _serve_earlier_disk(scene: Scene) -> str:
    """Serve a disk the plain way and log the initiator in; return the LUN's device."""
    primary = scene.lab.primary
    disk = primary.add_disk(EARLIER_DISK, scene.size)
    primary.run(f"lab-export {scene.name} {disk} --portal {FRONT_PRIMARY}")
    device = scene.log_in()
    scene.lab.initiator.run(f"dd if={device} bs=4k count=1 iflag=direct status=none >/dev/null")
    return device


def _replace_disk(scene: Scene, shell: Targetcli, lun: str) -> None:
    """Pull the served disk; the admin takes it out of the configuration and plugs in a new one."""
    scene.lab.primary.remove_disk(EARLIER_DISK)
    scene.lab.initiator.run(scripts.forget_disk(lun))
    # the LUN first: a targetcli that is running does not notice that it went with its backstore
    shell.do(
        f"/iscsi/{IQN}{scene.name}/tpg1/luns delete lun0",
        f"/backstores/block delete {scene.name}",
    )
    scene.add_blank_disk()
