"""The file system of the state files is full: what needs no commit goes on, the rest waits."""

from __future__ import annotations

from vagrant.agent import Job
from vagrant.lab import Lab

from .load import Load
from .served import has
from .stage import STATE_FOLDER, ZONE, Stage, staged

FLUSHES = 150
"""Each of a block not written before, and so with a commit."""

_BALLAST = f"{STATE_FOLDER}/ballast"
_FILL = f"for size in 1M 4k 512; do dd if=/dev/zero of={_BALLAST}.$size bs=$size || true; done"


def state_space_full(lab: Lab) -> None:
    """Armed zones are written, others wait until there is space, and nothing is lost."""
    with staged(lab, "space") as stage:
        load = Load(stage)
        stage.read_all()
        load.go_on()
        load.pause()
        stage.wait_until("disarmed", lambda status: status["armed_zones"] == 0)
        armed = stage.size - 2 * ZONE
        lab.initiator.run(_write(stage, armed))
        lab.primary.run(f"({_FILL}) 2>/dev/null; sync")
        try:
            waiting = _fill_up_and_write(stage, load, armed)
        finally:
            lab.primary.run(f"rm -f {_BALLAST}*")
        for job in waiting:
            job.wait()
        load.go_on()
        load.stop()
        load.check()
        stage.check_file_system()
        stage.check_equal()


def _fill_up_and_write(stage: Stage, load: Load, armed: int) -> tuple[Job, Job]:
    """Flush until the state file's log has no space either; return the jobs that wait then."""
    initiator = stage.lab.initiator
    flushing = initiator.start_script(_write(stage, armed + ZONE // 2, FLUSHES, ",dsync"))
    stage.wait_until("full", has("state_full"))
    initiator.run(_write(stage, armed), timeout_seconds=60)  # needs no commit
    zones = stage.status()["armed_zones"]
    writing = initiator.start_script(_write(stage, stage.size - ZONE))
    load.resume()
    load.wait_until_it_waits()
    if not writing.is_running:
        assert stage.status()["armed_zones"] > zones, "written, but not armed durably"
    assert flushing.is_running, "flushed, but not committed"
    return flushing, writing


def _write(stage: Stage, offset: int, count: int = 1, flags: str = "") -> str:
    """A script that writes blocks one by one, without a flush unless *flags* ask for it."""
    options = f"bs=4k count={count} seek={offset // 4096} oflag=direct{flags}"
    return f"dd if=/dev/urandom of={stage.device} {options} conv=notrunc status=none"
