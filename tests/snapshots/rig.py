"""A backup host in memory: LIO, LVM, records on a real file system, and a clock that is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tcmu_restore.snapshots.backing import Backing
from tcmu_restore.snapshots.command import Run
from tcmu_restore.snapshots.host import Host
from tcmu_restore.snapshots.lio import Lio
from tcmu_restore.snapshots.lvm import Lvm
from tcmu_restore.snapshots.record import Record, RecordFolder
from tests.snapshots.fake_lvm import FakeLvm
from tests.snapshots.fake_rtslib import FakeGroup, FakeRtslib, FakeStorageObject, FakeTarget

FOREIGN_ADDRESS = "203.0.113.9"
IQN = "iqn.2026-11.org.example:"
INITIATOR = "iqn.2026-11.org.example:primary"
SECRETS = {
    "chap_userid": "admin",
    "chap_password": "one-way-secret",
    "chap_mutual_userid": "them",
    "chap_mutual_password": "mutual-secret",
}
START = datetime(2026, 11, 23, 12, tzinfo=UTC)


class PowerCut(BaseException):
    """The machine is off from here on."""


@dataclass
class Steps:
    """Counts changes; at the *fatal* one the power is cut."""

    count: int = 0
    fatal: int | None = None

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            raise PowerCut


class StepRecords(RecordFolder):
    """Records whose writing and removal are steps too."""

    def __init__(self, folder: Path, step: Steps) -> None:
        super().__init__(folder)
        self._step = step

    def save(self, record: Record) -> None:
        self._step()
        super().save(record)
        self._step()

    def remove(self, snapshot: str) -> None:
        self._step()
        super().remove(snapshot)
        self._step()


@dataclass
class Rig:
    """``block/thin``, ``block/classic`` and ``fileio/file``, each exported as LUN 3."""

    folder: Path
    steps: Steps = field(default_factory=Steps)
    hours: int = 0

    def __post_init__(self) -> None:
        self.lvm = FakeLvm(self.steps)
        self.lio = FakeRtslib(self.steps)
        self.file = self.folder / "file.img"
        self.file.write_bytes(bytes(1 << 20))
        for plugin, name, path in (
            ("block", "thin", "/dev/vg/thin"),
            ("block", "classic", "/dev/vg/classic"),
            ("fileio", "file", str(self.file)),
        ):
            self.add_origin(plugin, name, path)
        self.records = StepRecords(self.folder / "records", self.steps)
        self.host = Host(
            Lio(self.lio),
            self.records,
            self.lvm.run,
            self.find_backing,
            has_address=lambda portal: portal.address != FOREIGN_ADDRESS,
            now=lambda: self.now,
        )
        self.steps.count = 0

    @property
    def now(self) -> datetime:
        return START + timedelta(hours=self.hours)

    def add_origin(self, plugin: str, name: str, path: str, **more: Any) -> FakeGroup:
        size = self.file.stat().st_size if plugin == "fileio" else self.lvm.lvs["thin"].size
        found = FakeStorageObject(
            self.lio, plugin, name, path=path, size=size, wwn=f"serial-of-{name}"
        )
        group = FakeGroup(FakeTarget(self.lio, IQN + name), 1)
        group.parent_target.tpgs.append(group)
        group.document |= {
            "attributes": {"authentication": 1, "demo_mode_write_protect": 0},
            "luns": [{"index": 3, "storage_object": f"/backstores/{plugin}/{name}"}],
            "portals": [{"ip_address": "192.0.2.1", "port": 3260}],
            "node_acls": [
                SECRETS | {"node_wwn": INITIATOR, "mapped_luns": [{"index": 0, "tpg_lun": 3}]}
            ],
        } | more
        group.enable = True
        self.lio.saved[f"/backstores/{plugin}/{name}"] = (found, group.parent_target)
        return group

    def find_backing(self, origin: str, path: str, run: Run) -> Backing:
        """Stand for what needs device nodes; a volume's UUID is its name here."""
        if path.startswith("/dev/vg/"):
            return Backing(origin, path, is_block=True, lv=Lvm(run).by_uuid(Path(path).name))
        return Backing(origin, path, is_block=not path.endswith(".img"))

    def group(self, iqn: str) -> FakeGroup:
        """Return the only portal group of a target."""
        (found,) = self.lio.target_map[iqn].tpgs
        return found

    def left(self) -> list[str]:
        """Return everything there is of snapshots, wherever it is."""
        records = self.folder / "records"
        return [
            *(name for name, lv in self.lvm.lvs.items() if lv.origin),
            *(name for _, name in self.lio.objects if name.startswith("snapshot-")),
            *(iqn for iqn in self.lio.target_map if ":snapshot-" in iqn),
            *(path for path in self.lio.saved if "snapshot-" in path),
            *(path.name for path in self.folder.glob("*snapshot*")),
            *(path.name for path in records.glob("*") if path.name != ".lock"),
        ]
