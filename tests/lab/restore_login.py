"""A primary that may log in to the backup machine, for `tcmu-restore restore-from`."""

from __future__ import annotations

import json

from vagrant.lab import Lab
from vagrant.scene import BULK_BACKUP, THIN_BACKUP

from .failures.stage import STATE_FOLDER
from .howto_stage import LET_IN

KEY, KNOWN = "/root/restore-key", "/root/restore-known-hosts"

STEPS = ("create", "attach", "merge", "detach", "delete")
"""What `restore-from` records, each before it is begun."""


def let_in(lab: Lab) -> None:
    """Give the primary a key, the backup its public half, and the primary the host's."""
    lab.primary.run(f"rm -f {KEY}*; ssh-keygen -q -t ed25519 -N '' -f {KEY}")
    public = lab.primary.run(f"cat {KEY}.pub").strip()
    host_key = lab.backup.run(f"{LET_IN.format(public)}; sync").strip().splitlines()[-1]
    lab.primary.run(f"echo '{THIN_BACKUP} {host_key}' >{KNOWN}; sync")


def restore_words(name: str) -> str:
    """Return the command that restores *name* over the bulk link."""
    return (
        f"tcmu-restore restore-from {name} {THIN_BACKUP} --key {KEY} --known-hosts {KNOWN} "
        f"--portal {BULK_BACKUP}"
    )


def run_until(lab: Lab, name: str, step: str) -> None:
    """Begin to restore *name*, and kill the command as soon as *step* is recorded."""
    record = f"{STATE_FOLDER}/{name}.restore-from.json"
    lab.primary.run(
        f"{restore_words(name)} >/run/restore.out 2>&1 & pid=$!\n"
        f'until grep -qs \'"step": "{step}"\' {record}; do kill -0 $pid; done\n'
        "kill -9 $pid",
        timeout_seconds=300,
    )


def left_on_backup(lab: Lab) -> dict[str, object]:
    """Return every trace that a snapshot could leave on the backup machine."""
    script = """tcmu-restore snapshot-list --json
lvs --noheadings -o lv_name backup | tr -d ' ' | sort | tr '\\n' ' '; echo
ls /sys/kernel/config/target/iscsi | grep iqn | tr '\\n' ' '; echo
ls -d /sys/kernel/config/target/core/*/* | grep -v alua | tr '\\n' ' '; echo
cat /etc/rtslib-fb-target/saveconfig.json | grep -c snapshot || true"""
    listed, volumes, targets, objects, saved = lab.backup.run(script).split("\n")[:5]
    return {
        "snapshots": [each["snapshot"] for each in json.loads(listed)["snapshots"]],
        "traces": [word for word in f"{volumes} {targets} {objects}".split() if "restore" in word],
        "saved": int(saved),
    }


NOTHING = {"snapshots": [], "traces": [], "saved": 0}
