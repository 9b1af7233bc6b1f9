"""A scene whose service is asked over the bus by busctl: fast, and for programs.

Starting the command line takes seconds in an emulated machine, for its interpreter alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from vagrant.errors import GuestScriptError
from vagrant.scene import Scene

_MANAGER = "org.tcmu_restore.Manager1"
_CALL = "busctl --json=short --timeout=240 call org.tcmu_restore.Service1 /org/tcmu_restore"
POLL_SECONDS = 0.4


class ServedScene(Scene):
    """A volume, its service, and waiting for what its status says."""

    __slots__ = ()

    def create_and_export(self) -> None:
        """Define the volume, make its backstore with rtslib alone, and export it."""
        settings = f"2 primary s {self.primary_disk} backup s {self.backup_url}"
        self.lab.primary.run(
            f"{call_words('CreateVolume', self.name, 'a{sv}', settings)}\n"
            f"lab-export {self.name} restore/{self.name} --plugin user --size {self.size}\nsync"
        )

    def call(self, member: str, signature: str = "", arguments: str = "") -> Any:
        """Call a method whose first argument is the volume's name; return its answer."""
        words = call_words(member, self.name, signature, arguments)
        output = self.lab.primary.run(words, timeout_seconds=300).strip()
        answer = json.loads(output) if output else None
        return answer["data"][0] if answer else None

    def status(self) -> dict[str, Any]:
        """Return the volume's status document."""
        document: dict[str, Any] = json.loads(self.call("Status"))
        return document

    def wait_until(
        self, what: str, check: Callable[[dict[str, Any]], bool], seconds: float = 90
    ) -> dict[str, Any]:
        """Ask for the status until *check* holds."""
        end = time.monotonic() + seconds
        while True:
            try:
                status = self.status()
                if check(status):
                    return status
            except GuestScriptError as error:  # the daemon is being restarted
                status = {"error": str(error)}
            assert time.monotonic() < end, f"not {what} after {seconds:g} s: {status}"
            time.sleep(POLL_SECONDS)


def call_words(member: str, name: str, signature: str = "", arguments: str = "") -> str:
    """Return the command that calls a method for the volume *name*."""
    return f"{_CALL} {_MANAGER} {member} 's{signature}' {name} {arguments}"


def has(condition: str) -> Callable[[dict[str, Any]], bool]:
    """Return a check of a status: whether *condition* is among what holds."""

    def check(status: dict[str, Any]) -> bool:
        return any(found["name"] == condition for found in status["conditions"])

    return check
