"""`tcmu-restore verify` under load, where somebody wrote behind the volume's back."""

from __future__ import annotations

from typing import Any

import pytest

from vagrant.lab import Lab
from vagrant.machine import Machine

from .failures.load import Load
from .failures.stage import ZONE, Stage, staged
from .pattern import digest_at

pytestmark = [pytest.mark.lab, pytest.mark.long]

BLOCK = 4096


def spoil(machine: Machine, device: str, offset: int, blocks: int) -> None:
    """Write random bytes past every cache."""
    machine.run(
        f"dd if=/dev/urandom of={device} bs={BLOCK} count={blocks} seek={offset // BLOCK} "
        "oflag=direct conv=notrunc status=none"
    )


def digests_at(stage: Stage, offset: int, length: int) -> list[str]:
    """Return what the LUN, the primary disk and the backup hold in one extent."""
    lab = stage.lab
    places = (
        (lab.initiator, stage.device),
        (lab.primary, stage.primary_disk),
        (lab.backup, stage.backup_device),
    )
    return [machine.run(digest_at(device, offset, length)).split()[0] for machine, device in places]


def verify(stage: Stage, repair: str) -> dict[str, Any]:
    """Run a verification to its end; return the status document."""
    stage.restore(f"verify start {stage.name} --repair {repair}")
    return stage.wait_until("verified", lambda status: status["verify"]["state"] == "done", 180)


def test_what_differs_is_named_and_repaired_from_the_side_that_is_right(lab: Lab) -> None:
    with staged(lab, "verify") as stage:
        stage.read_all()
        on_primary, on_backup = stage.size - 2 * ZONE, stage.size - ZONE
        right = digests_at(stage, on_primary, 2 * BLOCK)[2]
        load = Load(stage)
        load.go_on()
        spoil(lab.primary, stage.primary_disk, on_primary, 2)
        spoil(lab.backup, stage.backup_device, on_backup, 1)
        wrong = digests_at(stage, on_backup, BLOCK)
        assert wrong[1] != wrong[2]

        found = verify(stage, "none")["verify"]
        assert found["regions_differing"] == 3
        assert found["differing_extents"] == [[on_primary, 2 * BLOCK], [on_backup, BLOCK]]
        assert digests_at(stage, on_backup, BLOCK) == wrong  # only reported
        print("verify: the", found["rate_bytes_per_second"], "B/s under load")

        assert verify(stage, "backup")["verify"]["regions_differing"] == 3
        assert digests_at(stage, on_primary, 2 * BLOCK) == [right] * 3
        assert digests_at(stage, on_backup, BLOCK) == [wrong[2]] * 3

        spoil(lab.backup, stage.backup_device, on_backup, 1)
        assert verify(stage, "primary")["verify"]["regions_differing"] == 1
        load.go_on()
        load.stop()
        stage.wait_until("in sync", lambda status: status["state"] == "in_sync")
        assert digests_at(stage, on_backup, BLOCK) == [wrong[2]] * 3
        assert verify(stage, "none")["verify"]["regions_differing"] == 0
        load.check()
        stage.check_file_system()
        stage.check_equal()
