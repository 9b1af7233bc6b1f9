"""LVM's volumes as its own reports have them, and the few commands a snapshot needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from .command import Run
from .errors import SnapshotCommandError

TAG: Final = "tcmu-restore"
"""On every volume made here: none without it is ever removed."""

_FIELDS: Final = (
    "lv_name,vg_name,lv_size,lv_path,lv_layout,pool_lv,origin,lv_tags,lv_active_locally,"
    "lv_snapshot_invalid,data_percent,metadata_percent,vg_free"
)
_NO: Final = ("", "0", "-1", "unknown")


@dataclass(frozen=True, slots=True)
class Lv:
    """One logical volume. Sizes are bytes; percentages are None where they do not apply."""

    name: str
    vg: str
    size: int
    path: str
    layout: frozenset[str]
    pool: str
    origin: str
    tags: frozenset[str]
    is_active: bool
    is_invalid: bool
    data_percent: float | None
    metadata_percent: float | None
    vg_free: int

    @property
    def full_name(self) -> str:
        """The name that LVM's commands take."""
        return f"{self.vg}/{self.name}"

    @property
    def is_thin(self) -> bool:
        """Whether it lies in a thin pool."""
        return "thin" in self.layout and bool(self.pool)

    @property
    def is_classic_snapshot(self) -> bool:
        """Whether it is itself a snapshot with an area of its own; LVM makes none of such."""
        return bool(self.origin) and not self.is_thin


def lv_uuid(dm_uuid: str) -> str | None:
    """Return LVM's UUID of the volume behind a device-mapper UUID; None if it is not LVM's.

    ``LVM-`` and 32 characters each of the group and the volume; what follows names a hidden part.
    """
    text = dm_uuid.removeprefix("LVM-")
    if text == dm_uuid or len(text) != 64 or not text.isalnum():  # noqa: PLR2004 - see above
        return None
    found = text[32:]
    parts = (found[:6], *(found[at : at + 4] for at in range(6, 26, 4)), found[26:])
    return "-".join(parts)


class Lvm:
    """LVM's commands. All raise SnapshotCommandError when LVM refuses."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def by_uuid(self, uuid: str) -> Lv | None:
        """Return the volume with LVM's *uuid*."""
        return self._select(f'lv_uuid="{uuid}"')

    def by_name(self, vg: str, name: str) -> Lv | None:
        """Return the volume VG/NAME."""
        return self._select(f'vg_name="{vg}" && lv_name="{name}"')

    def by_device(self, device: str) -> Lv | None:
        """Return the volume whose path, /dev/VG/NAME, is *device*."""
        _, _, vg, name = device.split("/")
        return self.by_name(vg, name)

    def create_snapshot(self, origin: Lv, name: str, *, size: int | None = None) -> None:
        """Take a read-only snapshot; *size* (bytes) is a classic one's own area."""
        kind = (
            ("--setactivationskip", "n")  # LVM activates a thin snapshot only when told to
            if size is None
            else ("--size", f"{size}b")
        )
        words = ("lvcreate", "--yes", "--quiet", "--snapshot", "--permission", "r", "--addtag", TAG)
        self._run([*words, *kind, "--name", name, origin.full_name])

    def activate(self, volume: Lv) -> None:
        """Make its device appear, also where it is to be skipped at boot."""
        words = ("lvchange", "--yes", "--quiet", "--ignoreactivationskip", "--activate", "y")
        self._run([*words, volume.full_name])

    def remove(self, volume: Lv) -> None:
        """Remove a snapshot that was made here."""
        if TAG not in volume.tags:
            raise SnapshotCommandError(
                "lvremove", f"{volume.full_name} lacks the tag {TAG}: it was not made here"
            )
        self._run(["lvremove", "--yes", "--quiet", volume.full_name])

    def _select(self, condition: str) -> Lv | None:
        report = ("--reportformat", "json", "--units", "b", "--nosuffix", "--binary")
        text = self._run(["lvs", *report, "--select", condition, "--options", _FIELDS])
        try:
            rows = json.loads(text)["report"][0]["lv"]
            return _lv(rows[0]) if rows else None
        except (ValueError, KeyError, IndexError, TypeError) as error:
            reason = f"its report cannot be read: {error}"
            raise SnapshotCommandError("lvs", reason) from error


def _lv(row: dict[str, Any]) -> Lv:
    return Lv(
        name=row["lv_name"],
        vg=row["vg_name"],
        size=int(row["lv_size"]),
        path=row["lv_path"],
        layout=frozenset(row["lv_layout"].split(",")),
        pool=row["pool_lv"],
        origin=row["origin"],
        tags=frozenset(row["lv_tags"].split(",")),
        is_active=row["lv_active_locally"] not in _NO,
        is_invalid=row["lv_snapshot_invalid"] not in _NO,
        data_percent=_percent(row["data_percent"]),
        metadata_percent=_percent(row["metadata_percent"]),
        vg_free=int(row["vg_free"]),
    )


def _percent(text: str) -> float | None:
    return float(text) if text else None
