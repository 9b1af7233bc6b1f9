"""`restore-from` when both machines lose power, at each of its steps: the same command goes on."""

from __future__ import annotations

import pytest

from vagrant.lab import Lab
from vagrant.machine import lose_power
from vagrant.scene import IQN

from .failures.stage import staged
from .restore_login import NOTHING, STEPS, left_on_backup, let_in, restore_words, run_until

pytestmark = [pytest.mark.lab, pytest.mark.long]

NAME = "power"


@pytest.mark.parametrize("step", STEPS)
def test_both_machines_lose_power_and_the_same_command_goes_on(lab: Lab, step: str) -> None:
    let_in(lab)
    with staged(lab, NAME, has_file_system=False) as stage:
        lab.initiator.run(f"iscsiadm -m node -T {IQN}{NAME} --logout >/dev/null")
        run_until(lab, NAME, step)
        lose_power(lab.backup, lab.primary)
        found = stage.wait_until(
            "there", lambda s: s["state"] != "closed" and s["backup"]["reachable"], 240
        )
        print(f"{step}: after the cut {found['regions']}, {found['restore_from']}")

        print(lab.primary.run(restore_words(NAME), timeout_seconds=300))
        found = stage.status()
        assert found["restore_from"] is None
        assert found["snapshot"] is None
        assert found["regions"]["lost"] == found["regions"]["outdated"] == 0
        assert left_on_backup(lab) == NOTHING
        stage.log_in()
        stage.check_equal()
