"""What holds for a volume, and what to do about it, most important first.

Pure. The sentences are the service's; here are only the commands that a person can type as they
stand, which differ between the command line and targetcli.
"""

from __future__ import annotations

import shlex
from typing import Final

from ..service.registry_seam import Condition, ShippedSnapshot, VolumeStatus

SERIOUS: Final = frozenset({"fenced", "failed", "outdated", "diskless", "degraded", "state_full"})
"""Conditions that will not go away by waiting."""

REBUILD_COMMAND: Final = "state rebuild"


def is_open(status: VolumeStatus) -> bool:
    """Return whether the volume is being served; if not, most of its status is not there."""
    return "regions" in status


def conditions(status: VolumeStatus) -> list[Condition]:
    """Return every condition that holds; a service that knows only one has its state."""
    known = status.get("conditions")
    return known or [{"name": status["state"], "advice": status["advice"]}]


def condition_names(status: VolumeStatus) -> list[str]:
    """Return the conditions' names for a person."""
    return [condition["name"].replace("_", " ") for condition in conditions(status)]


def next_steps(
    status: VolumeStatus, *, replace_command: str | None = None, attach_command: str | None = None
) -> list[str]:
    """Return what to do next, a sentence each: one a condition, then what can be typed at once.

    *replace_command* takes a disk's path and *attach_command* a snapshot's, where it is not the
    command line's that is typed.
    """
    every = [condition for condition in conditions(status) if condition["advice"]]
    if len(every) == 1:
        steps = [every[0]["advice"]]
    else:
        steps = [f"{item['name'].replace('_', ' ')}: {item['advice']}" for item in every]
    if is_disk_back(status):
        command = replace_command or f"tcmu-restore replace-primary {status['volume']} --primary"
        steps.append(
            "The failed disk is back. Give it to the volume again with: "
            f"{command} {returned_path(status)}"
        )
    command = attach_command or f"tcmu-restore attach-snapshot {status['volume']}"
    steps += [_shipped_step(offer, command) for offer in status.get("shipped", [])]
    return steps + _rebuild_steps(status, " ".join(steps)) + _lio_steps(status)


def _shipped_step(offer: ShippedSnapshot, command: str) -> str:
    what = f"snapshot of this volume, exported {offer['taken']},"
    path = shlex.quote(offer["path"])
    if offer["problem"]:
        return f"A {what} is here at {path}, but {offer['problem']}."
    return f"A {what} is here. Use it with: {command} {path}"


def is_disk_back(status: VolumeStatus) -> bool:
    """Return whether the failed disk is there again and only waits for a command."""
    return is_open(status) and status["primary"].get("returned", False)


def returned_path(status: VolumeStatus) -> str:
    """Return where the returned disk is, quoted for a shell."""
    primary = status["primary"]
    return shlex.quote(primary.get("returned_path") or primary["path"])


def is_state_damaged(status: VolumeStatus) -> bool:
    """Return whether the state file keeps the volume from being opened.

    A file that only cannot be written just now is never a reason to make it anew.
    """
    state_file = status.get("state_file")
    return not is_open(status) and state_file is not None and bool(state_file["error"])


def _lio_steps(status: VolumeStatus) -> list[str]:
    size = status.get("lio_size", 0)
    if size and size < status["size"]:
        return [
            f"The LIO backstore still has {size} bytes; finish the resize with: "
            f"tcmu-restore resize {status['volume']}"
        ]
    lio = status.get("lio")
    if lio is None:
        return []
    if lio["state"] == "handover":
        return [begun_handover(status["volume"])]
    if lio["state"] == "unserved":
        return [
            "Its LIO backstore is there, but could not be opened; the log of tcmu-runner says why. "
            "When that is put right: systemctl restart tcmu-runner"
        ]
    return [
        "Its LIO backstore and LUNs are saved, but were skipped when LIO was restored; do not save "
        "with plain targetcli now. Bring them back, when the volume can be opened, with: "
        f"tcmu-restore reload {status['volume']}"
    ]


def begun_handover(volume: str) -> str:
    """Return what to do about a handover that was interrupted."""
    return (
        f"A handover of {volume} was begun; finish it, or learn why it cannot be, with: "
        f"tcmu-restore handover {volume}"
    )


def _rebuild_steps(status: VolumeStatus, said: str) -> list[str]:
    if not is_state_damaged(status) or REBUILD_COMMAND in said:
        return []
    command = f"tcmu-restore {REBUILD_COMMAND} {status['volume']}"
    return [
        f"The state file cannot be used. Make it anew, at the cost that it says, with: {command}"
    ]
