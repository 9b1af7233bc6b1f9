"""A one-shot signal between procedures. Drivers wait on it; the core opens it."""

from __future__ import annotations

from collections.abc import Callable


class Gate:
    """Closed until ``open`` is called, once. Opening an open gate does nothing."""

    __slots__ = ("_callbacks", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._callbacks: list[Callable[[], None]] = []

    def open(self) -> None:
        """Open the gate and tell everyone who waits, in the order in which they came."""
        if self.is_open:
            return
        self.is_open = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def when_open(self, callback: Callable[[], None]) -> None:
        """Call *callback* when the gate opens; the gate must still be closed."""
        assert not self.is_open
        self._callbacks.append(callback)
