"""Every exception of the lab. The class says what failed, `str()` is for a person."""

from __future__ import annotations

from collections.abc import Sequence


class LabError(Exception):
    """Anything that keeps the lab from doing what it was asked."""


class HostUnfitError(LabError):
    """This host cannot run the lab: not root, no TUN device, no package source."""


class HostCommandError(LabError):
    """A command on the host ended with a status other than 0."""

    def __init__(self, argv: Sequence[str], status: int, output: str) -> None:
        self.argv = tuple(argv)
        self.status = status
        self.output = output
        super().__init__(f"{' '.join(argv)} ended with status {status}:\n{output}")


class MachineError(LabError):
    """A machine did not start, or went away while something was expected of it."""

    def __init__(self, machine: str, what: str, console: str = "") -> None:
        self.machine = machine
        tail = f"\nIts console ends with:\n{console}" if console else ""
        super().__init__(f"{machine}: {what}{tail}")


class GuestScriptError(LabError):
    """A script in a machine ended with a status other than 0."""

    def __init__(self, machine: str, status: int, output: str) -> None:
        self.machine = machine
        self.status = status
        self.output = output
        super().__init__(f"{machine}: a script ended with status {status}:\n{output}")


class GuestTimeoutError(LabError):
    """A script in a machine was still running when its time was up; it was killed."""

    def __init__(self, machine: str, timeout_seconds: float, output: str) -> None:
        self.machine = machine
        self.output = output
        super().__init__(f"{machine}: a script ran for over {timeout_seconds:g} s:\n{output}")


class QmpError(LabError):
    """QEMU refused a control command."""
