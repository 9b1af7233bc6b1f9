"""Makes a failing seed small: leaves out steps as long as it goes on failing."""

from __future__ import annotations

from .run import ROUNDS, STEPS, Simulation


def failure_of(seed: int, keep: list[int] | None = None) -> tuple[Simulation, Exception] | None:
    """Run *seed* with the steps of *keep* only (all if None); return what failed, or None."""
    simulation = Simulation(seed)
    try:
        simulation.run(None if keep is None else frozenset(keep))
    except Exception as error:  # noqa: BLE001 - a mistake of any kind
        return simulation, error
    return None


def shrink(seed: int) -> list[int]:
    """Return steps of *seed* that still fail, none of which can be left out."""
    keep = list(range(ROUNDS * STEPS))
    parts = 2
    while len(keep) > 1:
        size = max(1, len(keep) // parts)
        for start in range(0, len(keep), size):
            fewer = keep[:start] + keep[start + size :]
            if failure_of(seed, fewer):
                keep, parts = fewer, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(2 * parts, len(keep))
    return keep
