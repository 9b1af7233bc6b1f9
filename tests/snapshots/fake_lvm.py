"""LVM in memory: answers the commands that snapshots use, in LVM's own report format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tcmu_restore.snapshots.command import run as run_really
from tcmu_restore.snapshots.errors import SnapshotCommandError
from tcmu_restore.units import GiB, MiB


@dataclass
class FakeLv:
    name: str
    size: int = 64 * MiB
    layout: str = "linear"
    pool: str = ""
    origin: str = ""
    tags: str = ""
    is_active: bool = True
    is_invalid: bool = False
    data_percent: str = ""
    metadata_percent: str = ""
    area: int | None = None
    taken_when: int = 0


class FakeLvm:
    """The volume group ``vg``. ``step`` is called before and after each change."""

    def __init__(self, step: Callable[[], None]) -> None:
        self.step = step
        self.free = 1 * GiB
        self.generation = 0
        """What the origins hold; a snapshot remembers it."""

        self.lvs = {
            lv.name: lv
            for lv in (
                FakeLv("classic"),
                FakeLv("thin", layout="thin,sparse", pool="pool"),
                FakeLv("pool", layout="thin,pool", data_percent="10.00", metadata_percent="11.07"),
            )
        }
        self.refuse = ""

    def run(self, words: Sequence[str]) -> str:
        """Stand for ``command.run``."""
        if words[0] == "partx":
            return run_really(words)
        if self.refuse and words[0] == self.refuse:
            raise SnapshotCommandError(words[0], "it was told to fail")
        commands = {
            "lvs": self._report,
            "lvcreate": self._create,
            "lvremove": self._remove,
            "lvchange": self._change,
        }
        return commands[words[0]](list(words[1:]))

    def _report(self, words: list[str]) -> str:
        condition = words[words.index("--select") + 1]
        name = re.search(r'lv_name="([^"]*)"|lv_uuid="([^"]*)"', condition)
        assert name is not None
        found = self.lvs.get(name[1] or name[2])
        return json.dumps({"report": [{"lv": [self._row(found)] if found else []}]})

    def _row(self, lv: FakeLv) -> dict[str, str]:
        return {
            "lv_name": lv.name,
            "vg_name": "vg",
            "lv_size": str(lv.size),
            "lv_path": f"/dev/vg/{lv.name}",
            "lv_layout": lv.layout,
            "pool_lv": lv.pool,
            "origin": lv.origin,
            "lv_tags": lv.tags,
            "lv_active_locally": str(int(lv.is_active)),
            "lv_snapshot_invalid": "-1" if lv.area is None else str(int(lv.is_invalid)),
            "data_percent": lv.data_percent,
            "metadata_percent": lv.metadata_percent,
            "vg_free": str(self.free),
        }

    def _create(self, words: list[str]) -> str:
        def option(name: str) -> str | None:
            return words[words.index(name) + 1] if name in words else None

        assert "--snapshot" in words
        assert option("--permission") == "r"
        origin, name = self.lvs[words[-1].removeprefix("vg/")], option("--name")
        assert name is not None
        assert name not in self.lvs
        size = option("--size")
        area = None if size is None else int(size.removesuffix("b"))
        assert area is not None or option("--setactivationskip") == "n"
        self.step()
        self.lvs[name] = FakeLv(
            name,
            origin.size,
            origin.layout if area is None else "linear",
            origin.pool if area is None else "",
            origin.name,
            option("--addtag") or "",
            area=area,
            taken_when=self.generation,
        )
        self.step()
        return ""

    def _remove(self, words: list[str]) -> str:
        self.step()
        del self.lvs[words[-1].removeprefix("vg/")]
        self.step()
        return ""

    def _change(self, words: list[str]) -> str:
        self.step()
        self.lvs[words[-1].removeprefix("vg/")].is_active = True
        return ""
