"""The lab for a person: boots it and passes lines to its machines.

A line is `MACHINE COMMAND`, or `reboot MACHINE`, `cut MACHINE` (power), `quit`.
"""

from __future__ import annotations

import sys

from vagrant.errors import LabError
from vagrant.lab import Lab
from vagrant.machine import Machine


def read_commands(*, with_project: bool) -> None:
    """Boot a lab and serve the lines of standard input until `quit` or its end."""
    with Lab(with_project=with_project, report=print) as lab:
        lab.boot()
        machines = {machine.name: machine for machine in lab.machines}
        print(__doc__)
        print(f"Machines: {', '.join(machines)}")
        for line in sys.stdin:
            first, _, rest = line.strip().partition(" ")
            if first == "quit":
                break
            try:
                _execute(machines, first, rest)
            except LabError as error:
                print(error)
            sys.stdout.flush()


def _execute(machines: dict[str, Machine], first: str, rest: str) -> None:
    if first in machines:
        print(machines[first].run(rest), end="")
    elif first == "reboot" and rest in machines:
        machines[rest].reboot()
    elif first == "cut" and rest in machines:
        machines[rest].power_cut()
        machines[rest].start()
    elif first:
        print(f"no machine and no word of mine: {first}")
