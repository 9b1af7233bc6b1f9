"""A fixed set of seeds. ``python -m tests.sim --seed N`` replays one."""

from __future__ import annotations

import pytest

from .run import run_seed


@pytest.mark.sim
@pytest.mark.parametrize("first", range(0, 500, 50))
def test_fixed_seeds(first: int) -> None:
    for seed in range(first, first + 50):
        try:
            run_seed(seed)
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}: {failure}") from failure
