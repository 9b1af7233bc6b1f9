"""Gives a machine its role with the scripts that the Vagrantfile uses too."""

from __future__ import annotations

import base64

from vagrant import host
from vagrant.agent import Job
from vagrant.machine import Machine

_COMMANDS = host.HERE / "bin"
_TIMEOUT_SECONDS = 180.0


def start_provisioning(machine: Machine) -> Job:
    """Start the scripts of a machine's role, which is its name, and return at once."""
    scripts = [_install_commands()]
    for role in ("common", machine.name):
        text = (host.HERE / f"provision-{role}.sh").read_text()
        scripts.append(f"bash -s <<'END OF {role}'\n{text}\nEND OF {role}\n")
    return machine.start_script("\n".join(scripts), timeout_seconds=_TIMEOUT_SECONDS)


def _install_commands() -> str:
    """Return a script that installs the lab's own commands in a machine."""
    lines = []
    for path in sorted(_COMMANDS.iterdir()):
        if path.is_file():
            target = f"/usr/local/sbin/{path.name}"
            text = base64.b64encode(path.read_bytes()).decode()
            lines.append(f"echo {text} | base64 -d >{target}; chmod 755 {target}")
    return "\n".join(lines)
