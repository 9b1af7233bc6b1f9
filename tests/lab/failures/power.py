"""Power cuts of the primary and the backup machine; their disks forget what was not flushed."""

from __future__ import annotations

from vagrant.lab import Lab

from .load import Load
from .stage import STATE_FOLDER, Stage, staged


def primary_power_cut(lab: Lab) -> None:
    """What was flushed before the cut is there after it; the two sides become equal."""
    with staged(lab, "pcut", short_timeouts=True) as stage:
        load = Load(stage, "--until-error")
        load.go_on()
        lab.primary.power_cut()
        load.wait_for_end()
        _drop_initiator(stage)
        lab.primary.start()
        assert lab.primary.run(f"mountpoint {STATE_FOLDER}")
        stage.wait_until("served again", lambda status: status["state"] != "degraded")
        _bring_initiator_back(stage)
        load.check("flushed")
        stage.check_file_system()
        stage.check_equal()


def _drop_initiator(stage: Stage) -> None:
    """End the session and the file system, so that nothing of before the cut is sent after it."""
    stage.lab.initiator.run(
        f"dmsetup wipe_table --noflush {stage.name}\numount {stage.folder}\n"
        f"dmsetup remove --retry {stage.name}\n"
        f"iscsiadm -m node -T iqn.2026-11.org.example:{stage.name} --logout"
    )


def _bring_initiator_back(stage: Stage) -> None:
    """Log in again and mount, which replays the journal."""
    stage.log_in()
    stage.map_file_system()


def backup_power_cut(lab: Lab) -> None:
    """The backup loses its cache; the initiator notices nothing; the resync sends it again."""
    with staged(lab, "bcut", volatile_backup=True) as stage:
        load = Load(stage)
        stage.read_all()
        load.go_on()
        lab.backup.power_cut()
        load.go_on()
        stage.wait_until("degraded", lambda status: status["state"] == "degraded")
        lab.backup.start()
        load.go_on()
        stage.wait_until("back", lambda status: status["backup"]["reachable"])
        load.stop()
        load.check()
        stage.check_file_system()
        stage.check_equal()
