"""Each failure once; `make lab-soak` repeats them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vagrant.lab import Lab

from .failures import SCENARIOS
from .failures.metadata_cost import measure_metadata_cost

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_nothing_acknowledged_is_lost(lab: Lab, scenario: Callable[[Lab], None]) -> None:
    scenario(lab)


def test_metadata_cost_is_reported(
    lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    cost = measure_metadata_cost(lab, seconds=15)
    record_property("measured", str(cost))
    assert cost.host_writes > 0
