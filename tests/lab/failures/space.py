"""The file system of the state files is full: what needs no commit goes on, the rest waits."""

from __future__ import annotations

from vagrant.lab import Lab

from .load import Load
from .served import has
from .stage import STATE_FOLDER, ZONE, Stage, staged

FULL_SECONDS = 6
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
        load.resume()
        armed, idle = stage.size - 2 * ZONE, stage.size - ZONE
        lab.initiator.run(_write(stage, armed))
        lab.primary.run(f"({_FILL}) 2>/dev/null; sync")
        try:
            load.wait_until_it_waits()  # the journal of the state file has had some space left
            assert has("state_full")(stage.status())
            lab.initiator.run(_write(stage, armed), timeout_seconds=60)
            waiting = lab.initiator.start_script(_write(stage, idle))
            lab.primary.run(f"sleep {FULL_SECONDS}")
            if not waiting.is_running:
                raise AssertionError(f"written, but not armed durably: {waiting.wait()}")
        finally:
            lab.primary.run(f"rm -f {_BALLAST}*")
        waiting.wait()
        load.go_on()
        load.stop()
        load.check()
        stage.check_file_system()
        stage.check_equal()


def _write(stage: Stage, offset: int) -> str:
    """A script that writes one block, without a flush."""
    options = f"bs=4k count=1 seek={offset // 4096} oflag=direct conv=notrunc status=none"
    return f"dd if=/dev/urandom of={stage.device} {options}"
