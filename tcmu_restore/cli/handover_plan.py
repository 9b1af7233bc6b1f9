"""What a handover is going to do, kept in a file until it is done, so that it can be resumed."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..options import STATE_DIR
from ..service.registry_seam import VolumeStatus
from .errors import HandoverError, SavedConfigError
from .lio_restore import write_config
from .saved_config import Config, SavedLun, SavedVolume

SUFFIX: Final = ".handover"
DONE_SUFFIX: Final = ".handed-over"
_KEPT_ATTRIBUTES: Final = ("block_size",)
"""Of the volume's backstore; the others belong to what serves it."""


@dataclass(frozen=True, slots=True)
class HandoverPlan:
    """*before* and *after* are storage objects as rtslib dumps them; *luns* lead to both."""

    volume: str
    before: Config
    after: Config
    luns: tuple[SavedLun, ...]
    disabled: tuple[tuple[str, str, int], ...]
    """Portal groups to be enabled at the end: (fabric, target, tag)."""

    forget: bool
    is_undo: bool = False
    """*before* is the plain backstore then, and *after* the volume's."""

    def save(self, folder: Path = STATE_DIR) -> None:
        """Make the plan durable. Raises HandoverError."""
        try:
            write_config(folder / f"{self.volume}{SUFFIX}", asdict(self))
        except OSError as error:
            reason = f"its plan cannot be written ({error})"
            raise HandoverError(self.volume, reason, "Nothing was changed.") from error

    def end(self, folder: Path = STATE_DIR, *, is_done: bool) -> None:
        """Nothing is under way any more; keep what an undo needs, as long as there can be one."""
        path = folder / f"{self.volume}{SUFFIX}"
        done = folder / f"{self.volume}{DONE_SUFFIX}"
        if is_done and (self.is_undo or self.forget):
            done.unlink(missing_ok=True)
        if is_done and not (self.is_undo or self.forget):
            path.replace(done)
        path.unlink(missing_ok=True)


def load_plan(
    volume: str, folder: Path = STATE_DIR, *, suffix: str = SUFFIX
) -> HandoverPlan | None:
    """Return the plan of a handover that was begun, or with DONE_SUFFIX of one that was done, or
    None. Raises SavedConfigError."""
    path = folder / f"{volume}{suffix}"
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        luns = tuple(_saved_lun(lun) for lun in raw.pop("luns"))
        disabled = tuple((fabric, wwn, int(tag)) for fabric, wwn, tag in raw.pop("disabled"))
        return HandoverPlan(luns=luns, disabled=disabled, **raw)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SavedConfigError(str(path), str(error)) from error


def _saved_lun(raw: dict[str, Any]) -> SavedLun:
    mapped = tuple((str(node), dict(item)) for node, item in raw.pop("mapped"))
    return SavedLun(**raw, mapped=mapped)


def begun_handovers(folder: Path = STATE_DIR) -> list[str]:
    """Return the volumes whose handover was begun and not finished."""
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))


def make_plan(status: VolumeStatus, loaded: SavedVolume, *, forget: bool) -> HandoverPlan:
    """Plan the handover of a restored volume. Changes nothing.

    Raises:
        HandoverError: The volume is not in sync and idle.
    """
    name = status["volume"]
    reason = _obstacle(status)
    if reason:
        raise HandoverError(name, reason, "Nothing was changed.")
    before, path = loaded.storage_object, status["primary"]["path"]
    after: Config = {"name": before["name"], "dev": path, "wwn": before["wwn"]}
    if is_block_device(path):
        after |= {"plugin": "block"}
    else:
        after |= {"plugin": "fileio", "size": status["size"], "write_back": True}
    attributes = before.get("attributes", {})
    after["attributes"] = {key: attributes[key] for key in _KEPT_ATTRIBUTES if key in attributes}
    after["alua_tpgs"] = before.get("alua_tpgs", [])
    disabled = dict.fromkeys((one.fabric, one.wwn, one.tag) for one in loaded.luns)
    return HandoverPlan(name, before, after, loaded.luns, tuple(disabled), forget)


def make_undo(done: HandoverPlan, plain: SavedVolume) -> HandoverPlan:
    """Plan the way back from *plain*, which *done* has made; LUNs may be others by now."""
    disabled = dict.fromkeys((one.fabric, one.wwn, one.tag) for one in plain.luns)
    return HandoverPlan(
        volume=done.volume,
        before=plain.storage_object,
        after=done.before,
        luns=plain.luns,
        disabled=tuple(disabled),
        forget=False,
        is_undo=True,
    )


def undo_consequences(plan: HandoverPlan) -> list[str]:
    """Return what an undo does, a sentence each."""
    before = plan.before.get("size") or size_of(str(plan.before.get("dev", "")))
    more = int(before) - int(plan.after["size"])
    sentences = [
        f"{plan.volume} becomes a volume again, with the same serial and LUNs: {len(plan.luns)}. "
        "Its portal groups are closed for a moment.",
        "All of it counts as stale: the resync sends everything to the backup.",
    ]
    if more > 0:
        sentences.append(f"THE LUN BECOMES SMALLER by {more} bytes; what lies there is cut off.")
    return sentences


def _obstacle(status: VolumeStatus) -> str:
    if status["state"] != "in_sync":
        words = status["state"].replace("_", " ")
        return f"it is {words}, and must be in sync; see: tcmu-restore status {status['volume']}"
    if status["snapshot"] is not None:
        return "a snapshot is attached; detach it first"
    if status.get("verify", {"state": "idle"})["state"] == "running":
        return "it is being verified; wait for the end or cancel it"
    return ""


def consequences(plan: HandoverPlan, size: int) -> list[str]:
    """Return what the handover of a volume of *size* bytes does, a sentence each."""
    kind, path = plan.after["plugin"], plan.after["dev"]
    groups = ", ".join(f"{wwn} group {tag}" for _, wwn, tag in plan.disabled) or "none"
    sentences = [
        f"{plan.volume} becomes the backstore /backstores/{kind}/{plan.after['name']} on {path}, "
        f"with the same serial and LUNs: {len(plan.luns)}. Writes are not mirrored from then on, "
        "and the backup becomes older.",
        "The product and revision in its INQUIRY data change; vendor, serial and WWN stay.",
        f"Portal groups that are closed for a moment, with all their LUNs: {groups}. Their "
        "initiators log in again by themselves and repeat what was in flight.",
    ]
    more = size_of(path) - size
    if more > 0:
        sentences.append(f"The LUN becomes larger by {more} bytes, which the disk has more.")
    kept = "are deleted" if plan.forget else "are put aside"
    return [*sentences, f"The volume's definition and state {kept}."]


def is_block_device(path: str) -> bool:
    """Return whether *path* leads to a block device."""
    return Path(path).exists() and stat.S_ISBLK(Path(path).stat().st_mode)


def size_of(path: str) -> int:
    """Return the size of a disk or file in bytes; 0 if it cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
