"""Statuses for the object tree: quick, slightly old, and never a hang.

``ls`` asks every node for its summary. Without a cache a service that does not answer would cost
its timeout once a volume; so one failure silences all nodes for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tcmu_restore.cli.client import ServiceClient
from tcmu_restore.cli.condition import SERIOUS, conditions, is_disk_back, is_open, is_state_damaged
from tcmu_restore.cli.status_text import (
    format_left,
    format_percent,
    format_rate,
    fraction_current,
    fraction_verified,
)
from tcmu_restore.errors import RestoreError, ServiceUnavailableError
from tcmu_restore.service.registry_seam import VolumeStatus

TIMEOUT_SECONDS: Final = 2.0
FRESH_SECONDS: Final = 2.0
"""A summary may be this old; one ``ls`` asks for each volume at most once."""

SILENCE_SECONDS: Final = 10.0
"""How long nobody asks a service again that did not answer."""

HEALTH: Final[dict[str, bool | None]] = {
    **dict.fromkeys(SERIOUS, False),
    "resyncing": None,
    "restoring": None,
    "in_doubt": None,
    "closed": None,
    "in_sync": True,
}
"""State to the tree's colour: True is green, None neutral, False red."""


class StatusCache:
    """Remembers each volume's last status; one instance serves all nodes of a shell."""

    def __init__(
        self, client: ServiceClient | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client or ServiceClient(timeout_seconds=TIMEOUT_SECONDS)
        self._clock = clock
        self._known: dict[str, tuple[float, VolumeStatus | None]] = {}
        self._silent_until = float("-inf")

    def status(self, name: str) -> VolumeStatus | None:
        """Return a status that is at most FRESH_SECONDS old, or None if there is none to get."""
        now = self._clock()
        read_at, status = self._known.get(name, (float("-inf"), None))
        if now - read_at < FRESH_SECONDS:
            return status
        if now < self._silent_until:
            return None
        status = self._read(name)
        self._known[name] = (self._clock(), status)
        return status

    def forget(self, name: str) -> None:
        """Read the status anew next time: something was just changed."""
        self._known.pop(name, None)
        self._silent_until = float("-inf")

    def summary(self, name: str) -> tuple[str, bool | None]:
        """Return the words and the health that the tree shows for a volume."""
        status = self.status(name)
        if status is None:
            return "state unknown", None
        words = _summary_words(status) + _job_words(status)
        health = HEALTH.get(status["state"])
        return ", ".join(words), None if health and _differs(status) else health

    def _read(self, name: str) -> VolumeStatus | None:
        try:
            return self._client.status(name)
        except ServiceUnavailableError:
            self._silent_until = self._clock() + SILENCE_SECONDS
        except RestoreError:
            pass  # not a volume of ours, or no permission: the tree just does not know
        return None


def _differs(status: VolumeStatus) -> bool:
    return bool("verify" in status and status["verify"]["regions_differing"])


def _job_words(status: VolumeStatus) -> list[str]:
    """Return how fast the merge is, and how far the verification."""
    words = []
    if is_open(status) and status["merge"]["state"] == "running":
        merge = status["merge"]
        rate = format_rate(merge["rate_bytes_per_second"])
        words.append(f"merging {rate}, {format_left(merge)}")
    verify = status.get("verify")
    if verify is not None and verify["state"] in ("running", "paused"):
        words.append(f"verify {verify['state']} {format_percent(fraction_verified(verify))}")
    if verify is not None and _differs(status):
        words.append(f"{verify['regions_differing']} regions differ")
    return words


def _summary_words(status: VolumeStatus) -> list[str]:
    """Return the state's word, what else matters, and how far a restore is."""
    words = []
    for name in [condition["name"] for condition in conditions(status)]:
        if name == "restoring":
            words.append(f"restoring {format_percent(fraction_current(status))}")
        elif name == status["state"] or name in SERIOUS:
            words.append(name.replace("_", " "))
    if is_disk_back(status):
        words.append("the disk is back")
    if is_state_damaged(status):
        words.append("state file damaged")
    return words
