"""Seconds per named step, for people who wait for an image or a boot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StepTimer:
    """Collects (name, seconds) of the steps that were really done, in order."""

    def __init__(self, report: Callable[[str], None] | None = None) -> None:
        self.steps: list[tuple[str, float]] = []
        self._report = report

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step and report it when it has ended well."""
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        self.steps.append((name, seconds))
        if self._report is not None:
            self._report(f"{seconds:7.1f} s  {name}")
