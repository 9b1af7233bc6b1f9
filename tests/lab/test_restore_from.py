"""One command from the primary, over a real SSH: killed, gone on with, refused, and removed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from vagrant.errors import GuestScriptError
from vagrant.lab import Lab
from vagrant.scene import THIN_BACKUP

from .failures.load import Load
from .failures.stage import MIB, Stage, staged
from .refusals import run_all
from .restore_login import (
    KEY,
    KNOWN,
    NOTHING,
    STEPS,
    left_on_backup,
    let_in,
    restore_words,
    run_until,
)

pytestmark = [pytest.mark.lab, pytest.mark.long]

NAME = "oneway"
SLOW_BITS_PER_SECOND = 8_000_000
"""Of the bulk link: 32 MiB take half a minute, time to be killed in."""

COMMAND = restore_words(NAME)


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Iterator[Stage]:
    """A volume whose primary knows the backup machine's host key, and may log in there."""
    let_in(lab)
    with staged(lab, NAME) as made:
        yield made


def start_and_kill(stage: Stage) -> None:
    """Begin over a slow bulk link, and kill the command in mid-merge."""
    lab = stage.lab
    lab.backup.netem("bulk", rate_bits_per_second=SLOW_BITS_PER_SECOND)
    job = lab.primary.start_script(f"echo $$ >/run/restore.pid; exec {COMMAND}")
    merged = stage.status()["counters"]["regions_merged"]

    def is_merging(status: dict[str, Any]) -> bool:
        assert job.is_running, f"it ended: {job.wait()}"
        return bool(status["counters"]["regions_merged"] > merged)

    stage.wait_until("merging", is_merging, seconds=240)
    lab.primary.run("kill -9 $(cat /run/restore.pid)")
    with pytest.raises(GuestScriptError):
        job.wait()


def test_killed_in_mid_merge_the_same_command_goes_on(stage: Stage) -> None:
    lab = stage.lab
    load = Load(stage)
    assert left_on_backup(lab) == NOTHING
    began = time.monotonic()
    start_and_kill(stage)
    load.go_on()
    found = stage.status()
    assert found["restore_from"]["step"] == "merge"
    assert found["restore_from"]["origin"] == f"block/{NAME}"
    assert found["merge"]["state"] in ("running", "done")  # it needs nobody
    shown = lab.primary.run(f"tcmu-restore status {NAME}")
    assert f"tcmu-restore restore-from {NAME} --abort" in " ".join(shown.split())
    assert left_on_backup(lab)["snapshots"] == [f"restore-{NAME}"]
    with pytest.raises(GuestScriptError, match="not finished"):
        lab.primary.run(f"{COMMAND} --provider lvm")  # another one than was begun

    lab.backup.netem("bulk")
    said = lab.primary.run(f"tcmu-restore restore-from {NAME}", timeout_seconds=300)
    print(f"restore-from, killed and gone on with: {time.monotonic() - began:.1f} s\n{said}")
    found = stage.status()
    assert found["restore_from"] is None
    assert found["snapshot"] is None
    assert left_on_backup(lab) == NOTHING
    assert found["regions"]["lost"] == found["regions"]["outdated"] == 0
    load.stop()
    load.check()
    stage.check_file_system()
    stage.check_equal()


def test_backup_reboots_in_mid_merge_and_abort_removes_everything(stage: Stage) -> None:
    lab = stage.lab
    lab.primary.run(f"tcmu-restore declare-lost {NAME} --yes")
    start_and_kill(stage)
    lab.backup.reboot()
    lab.primary.run(f"tcmu-restore restore-from {NAME} --abort", timeout_seconds=300)
    found = stage.status()
    assert found["restore_from"] is None
    assert found["snapshot"] is None
    assert found["merge"]["state"] in ("idle", "done")  # the link is fast after the reboot
    assert left_on_backup(lab) == NOTHING


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_status_names_what_removes_the_rest(stage: Stage, step: str) -> None:
    lab = stage.lab
    lab.backup.netem("bulk")
    lab.primary.run(f"tcmu-restore declare-lost {NAME} --yes")
    run_until(lab, NAME, step)
    found = stage.status()["restore_from"]
    assert found["remove"] == f"tcmu-restore restore-from {NAME} --abort"
    lab.primary.run(found["remove"], timeout_seconds=300)
    assert stage.status()["restore_from"] is None
    assert stage.status()["snapshot"] is None
    assert left_on_backup(lab) == NOTHING


BAD_INPUT = {
    "unknown host key": (f"--known-hosts /dev/null --key {KEY}", 2, "host key"),
    "wrong key": (f"--known-hosts {KNOWN} --key /root/other", 2, "authorized_keys"),
    "no such origin": (f"--known-hosts {KNOWN} --key {KEY} --origin block/other", 4, "other"),
    "no such portal": (
        f"--known-hosts {KNOWN} --key {KEY} --portal 10.77.9.9",
        4,
        "no interface of this host",
    ),
    "nobody there": (f"--known-hosts {KNOWN} --key {KEY} --port 9", 4, "cannot be reached"),
}


def test_bad_input_is_one_sentence_and_changes_nothing(stage: Stage) -> None:
    lab = stage.lab
    lab.primary.run(
        "rm -f /root/other*; ssh-keygen -q -t ed25519 -N '' -f /root/other\n"
        f"tcmu-restore declare-lost {NAME} --yes"
    )
    begin = f"restore-from {NAME} {THIN_BACKUP}"
    commands = {case: f"{begin} {options}" for case, (options, _, _) in BAD_INPUT.items()}
    answers = run_all(lab.primary, commands)
    wrong = {
        case: answers[case]
        for case, (_, status, words) in BAD_INPUT.items()
        if not answers[case].is_refusal(words) or answers[case].status != status
    }
    assert not wrong
    assert stage.status()["restore_from"] is None
    assert left_on_backup(lab) == NOTHING


def test_only_the_selected_part_is_merged(stage: Stage) -> None:
    """What is outside comes from the live backup only when it is read."""
    lab = stage.lab
    lab.backup.netem("bulk")
    lab.primary.run(f"tcmu-restore declare-lost {NAME} --yes")
    before = stage.status()["regions"]["current"]
    lab.primary.run(f"{COMMAND} --extent 4M:8M", timeout_seconds=300)
    found = stage.status()
    assert found["regions"]["current"] - before == 8 * MIB // 4096
    assert found["state"] == "restoring"
    assert left_on_backup(lab) == NOTHING
