"""A fixed set of seeds. ``python -m tests.sim --seed N`` replays one."""

from __future__ import annotations

import pytest

from .shrink import failure_of, shrink


@pytest.mark.sim
@pytest.mark.parametrize("first", range(0, 500, 50))
def test_fixed_seeds(first: int) -> None:
    for seed in range(first, first + 50):
        failed = failure_of(seed)
        if failed is not None:
            keep = ",".join(map(str, shrink(seed)))
            replay = f"python -m tests.sim --seed {seed} --keep {keep}"
            raise AssertionError(f"{failed[1]}\n  {replay}") from failed[1]
