"""What to keep of the machines after a failed scenario."""

from __future__ import annotations

import time
from pathlib import Path

from vagrant import host
from vagrant.errors import LabError, MachineError
from vagrant.lab import Lab

FOLDER = host.REPOSITORY / "build" / "lab"
CONSOLE_SIZE = 1 << 20
_SCRIPTS = {
    "dmesg": "dmesg",
    "journal": "journalctl --no-pager --boot",
    "tcmu-runner.log": "cat /var/log/tcmu-runner.log",
    "status.json": "timeout 60 bash -c '"
    "for file in /etc/tcmu-restore/volumes/*.toml; do "
    "tcmu-restore status $(basename $file .toml) --json; done'",
}


def save_evidence(lab: Lab, label: str) -> Path:
    """Write the logs of every machine that still answers to build/lab; return their folder."""
    folder = FOLDER / f"{label}-{time.strftime('%H%M%S')}"
    for machine in lab.machines:
        for name, script in _SCRIPTS.items():
            if machine is not lab.primary and name not in ("dmesg", "journal"):
                continue
            try:
                text = machine.run(f"{script} 2>&1 || true", timeout_seconds=90)
            except LabError as error:
                text = f"{error}\n{machine.read_console(CONSOLE_SIZE)}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{machine.name}.{name}").write_text(text)
    return folder


def check_machines_run(lab: Lab) -> None:
    """Tell a machine that has gone from a product that fails.

    Raises:
        MachineError: one has, for instance because its kernel panicked.
    """
    for machine in lab.machines:
        if not machine.is_running:
            raise MachineError(machine.name, "it has gone", machine.read_console())
