"""A registry in memory that keeps the contract of ``registry_seam``; no disk, no peer, no time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tcmu_restore.engine.link_settings import parse_link
from tcmu_restore.errors import UnknownVolumeError, VolumeExistsError, WrongStateError
from tcmu_restore.units import GiB, KiB, MiB

SIZE = 1 * GiB
RATE = 100 * MiB

RESYNC = {
    "state": "running",
    "reason": "",
    "bytes_left": 12 * MiB,
    "rate_bytes_per_second": 3 * MiB,
    "seconds_left": 4.0,
}

VERIFY = {
    "state": "running",
    "reason": "",
    "repair": "none",
    "bytes_done": 512 * MiB,
    "bytes_total": SIZE,
    "rate_bytes_per_second": 50 * MiB,
    "seconds_left": 10.0,
    "regions_differing": 2,
    "differing_extents": [(0, 8192)],
}

HEAT = {
    "accesses": 1000,
    "chunk_size": MiB,
    "hot_bytes": 100 * MiB,
    "hot_bytes_current": 98 * MiB,
}


def make_status(name: str, **changes: Any) -> dict[str, Any]:
    """Return the status of a volume that has just lost everything."""
    total = SIZE // (4 * KiB)
    status: dict[str, Any] = {
        "volume": name,
        "state": "restoring",
        "advice": "Attach a snapshot and start the merge.",
        "size": SIZE,
        "region_size": 4 * KiB,
        "regions": {
            "total": total,
            "current": 0,
            "lost": total,
            "stale": 0,
            "in_doubt": 0,
            "host_written": 0,
        },
        "primary": {"path": "/dev/primary", "state": "ok"},
        "backup": {
            "url": "iscsi://backup/iqn.a/0",
            "reachable": True,
            "reason": "",
            "latency_ms": 0.5,
        },
        "snapshot": None,
        "merge": {
            "state": "idle",
            "reason": "",
            "bytes_done": 0,
            "bytes_total": 0,
            "rate_bytes_per_second": 0,
            "seconds_left": None,
        },
        "counters": {
            "reads_from_primary": 0,
            "reads_from_backup": 3,
            "bytes_read_from_backup": 12 * KiB,
        },
    }
    return status | changes


def make_map(name: str, cells: list[list[int]]) -> dict[str, Any]:
    """Return a map document of *cells*."""
    return {
        "volume": name,
        "size": SIZE,
        "region_size": 4 * KiB,
        "kinds": ["current", "host_written", "stale", "lost", "in_doubt", "outdated"],
        "cells": cells,
    }


def conditions(*names: str) -> list[dict[str, str]]:
    """Return conditions, most important first, each with an advice of its own."""
    return [{"name": name, "advice": f"What to do when {name}."} for name in names]


def _words(link: dict[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in link.items()]


class FakeRegistry:
    """Volumes are their statuses. ``failures`` raises for a verb, ``merge_steps`` moves a merge.
    Settings of links are judged by the engine's own parser.

    Each status that is read while a merge runs applies one step; the last one ends it.
    """

    def __init__(self) -> None:
        self.on_change: Callable[[str, str], None] = lambda name, state: None
        self.volumes: dict[str, dict[str, Any]] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, ...]] = []
        self.failures: dict[str, Exception] = {}
        self.merge_steps: list[dict[str, Any]] = []
        self.maps: dict[str, dict[str, Any]] = {}

    def _enter(self, verb: str, *arguments: str) -> None:
        self.calls.append((verb, *arguments))
        if verb in self.failures:
            raise self.failures[verb]

    def _find(self, name: str) -> dict[str, Any]:
        if name not in self.volumes:
            raise UnknownVolumeError(name)
        return self.volumes[name]

    async def create_volume(
        self,
        name: str,
        *,
        primary: str,
        backup: str,
        credentials: str | None,
        mirror: str = "sync",
        link: dict[str, Any] | None = None,
    ) -> int:
        self._enter("create", name)
        parse_link(link or {}, bulk=False)
        if name in self.volumes:
            raise VolumeExistsError(name)
        self.volumes[name] = make_status(name)
        self.settings[name] = {
            "primary": primary,
            "backup": backup,
            "credentials": credentials,
            "mirror": mirror,
            "link": link,
        }
        return SIZE

    async def delete_volume(self, name: str) -> None:
        self._enter("delete", name)
        self._find(name)
        del self.volumes[name]

    def list_volumes(self) -> list[str]:
        self._enter("list")
        return sorted(self.volumes)

    def status(self, name: str) -> dict[str, Any]:
        self._enter("status", name)
        status = self._find(name)
        if "merge" in status and status["merge"]["state"] == "running" and self.merge_steps:
            status["merge"] |= self.merge_steps.pop(0)
        return status

    async def map(self, name: str, cells: int) -> dict[str, Any]:
        self._enter("map", name, str(cells))
        status = self._find(name)
        if name in self.maps:
            return self.maps[name]
        total = status["regions"]["total"]
        count = min(cells, total)
        bounds = [index * total // count for index in range(count + 1)]
        counts = [[0, 0, 0, bounds[i + 1] - bounds[i], 0, 0] for i in range(count)]
        return make_map(name, counts)

    async def attach_snapshot(
        self,
        name: str,
        snapshot: str,
        *,
        credentials: str | None,
        extents: Sequence[tuple[int, int]] | None = None,
        link: dict[str, Any] | None = None,
    ) -> None:
        parse_link(link or {}, bulk=True)
        selected = [str(extents)] if extents is not None else []
        self._enter("attach", name, snapshot, credentials or "", *selected, *_words(link or {}))
        self._find(name)["snapshot"] = {"source": snapshot, "reachable": True, "reason": ""}

    async def detach_snapshot(self, name: str) -> None:
        self._enter("detach", name)
        self._find(name)["snapshot"] = None

    async def merge_start(self, name: str) -> None:
        self._enter("merge_start", name)
        status = self._find(name)
        if status["snapshot"] is None:
            raise WrongStateError(name, "merge", "no snapshot is attached")
        status["merge"] |= {"state": "running", "bytes_total": SIZE}

    async def merge_pause(self, name: str) -> None:
        self._enter("merge_pause", name)
        self._find(name)["merge"]["state"] = "paused"

    async def merge_resume(self, name: str) -> None:
        self._enter("merge_resume", name)
        self._find(name)["merge"]["state"] = "running"

    async def merge_cancel(self, name: str) -> None:
        self._enter("merge_cancel", name)
        self._find(name)["merge"]["state"] = "idle"

    async def replace_primary(self, name: str, primary: str) -> None:
        self._enter("replace_primary", name, primary)
        self._find(name)["primary"] = {"path": primary, "state": "ok", "returned": False}

    async def declare_lost(self, name: str, *, offset: int, length: int | None, force: bool) -> int:
        self._enter("declare_lost", name, str(offset), str(length), str(force))
        status = self._find(name)
        if status["regions"]["stale"] and not force:
            raise WrongStateError(name, "declare bytes lost", "some of them are stale")
        return self._regions(status, offset, length)

    async def accept_outdated(self, name: str, *, offset: int, length: int | None) -> int:
        self._enter("accept_outdated", name, str(offset), str(length))
        status = self._find(name)
        end = SIZE if length is None else offset + length
        extents = status.get("outdated_extents", [])
        inside = [extent for extent in extents if offset <= extent[0] < end]
        status["outdated_extents"] = [extent for extent in extents if extent not in inside]
        count = sum(length for _, length in inside) // status["region_size"]
        status["regions"]["outdated"] = status["regions"].get("outdated", 0) - count
        return int(count)

    async def prepare_snapshot(self, name: str) -> None:
        self._enter("prepare_snapshot", name)
        self._find(name)

    async def resize(self, name: str) -> int:
        self._enter("resize", name)
        size = self._find(name)["size"]
        assert isinstance(size, int)
        return size

    async def protect(self, name: str, *, mirror: str) -> None:
        self._enter("protect", name, mirror)
        self._find(name)["protected"] = True

    async def retire(self, name: str, *, forget: bool) -> None:
        self._enter("retire", name, str(forget))
        self.volumes.pop(name, None)

    async def take_back(self, name: str) -> None:
        self._enter("take_back", name)

    async def rebuild_state(self, name: str) -> str:
        self._enter("rebuild_state", name)
        self._find(name)
        return "The counters were salvaged. All regions are fetched from the backup again."

    async def link_down(self, name: str) -> None:
        self._enter("link_down", name)
        self._find(name)["bulk_link"] = None

    async def verify(self, name: str, verb: str, *, repair: str) -> None:
        self._enter("verify", name, verb, repair)
        self._find(name)

    async def resync_pause(self, name: str) -> None:
        self._enter("resync_pause", name)
        self._find(name)["resync"]["state"] = "paused"

    async def resync_resume(self, name: str) -> None:
        self._enter("resync_resume", name)
        self._find(name)["resync"]["state"] = "running"

    @staticmethod
    def _regions(status: dict[str, Any], offset: int, length: int | None) -> int:
        size = (SIZE if length is None else offset + length) - offset
        return int(size // status["region_size"])
