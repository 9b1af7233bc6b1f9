"""What happens when something fails, on real kernels: one function a scenario, on a booted lab.

Each ends with the accounts: what was acknowledged, or flushed before a power cut, is there; the two
sides are equal after the resync; the initiator's file system is clean. Each leaves the lab clean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from vagrant.lab import Lab

from .daemon import daemon_killed_link_cut
from .disk import sectors_then_disk
from .power import backup_power_cut, primary_power_cut
from .replacement import disks_replaced, outdated_accepted
from .space import state_space_full

SCENARIOS: Final[Mapping[str, Callable[[Lab], None]]] = {
    scenario.__name__: scenario
    for scenario in (
        daemon_killed_link_cut,
        sectors_then_disk,
        disks_replaced,
        outdated_accepted,
        state_space_full,
        backup_power_cut,
        primary_power_cut,
    )
}
