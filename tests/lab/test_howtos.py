"""The how-tos, typed as they are written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from vagrant.lab import Lab
from vagrant.machine import lose_power

from .howto import HOWTOS, read_steps, run_steps
from .howto_stage import SIZE, HowToStage

pytestmark = [pytest.mark.lab, pytest.mark.long]

PAGES = sorted(path for path in HOWTOS.glob("*.md") if path.name != "README.md")
DISK_SIZE = SIZE + (1 << 20)
TRAVEL_SIZE = 2 * SIZE
"""With room for everything uncompressed, beside what its file system takes."""

SLOW_BITS_PER_SECOND = 2_000_000


class LabStage(HowToStage):
    """The stage on the lab's machines, which can do more than run scripts."""

    EVENTS: ClassVar[Mapping[str, str]] = {
        **HowToStage.EVENTS,
        "disk1 gets bad sectors": "spoil_disk",
        "the travelling disk is in the backup host": "make_travelling_disk",
        "the travelling disk is in the primary": "carry_disk",
        "a slow line": "slow_down",
        "a merge is under way": "begin_merge",
        "the power of both hosts is cut": "cut_power",
    }

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        places = {"backup host": lab.backup, "initiator": lab.initiator}
        super().__init__(
            lambda place, script: places.get(place, lab.primary).run(script, timeout_seconds=240)
        )
        lab.primary.add_disk("disk1", DISK_SIZE, volatile=True)
        lab.primary.add_disk("disk2", DISK_SIZE)

    def spoil_disk(self) -> None:
        disk = self.lab.primary.volatile_disk("disk1")
        for offset in (1 << 20, 9 << 20, 40 << 20):
            disk.fail_reads(offset, 1024)
        self.lab.primary.run("echo 3 >/proc/sys/vm/drop_caches")

    def make_travelling_disk(self) -> None:
        device = self.lab.backup.add_disk("travel", TRAVEL_SIZE)
        self.lab.backup.run(f"mkfs.ext4 -q {device}")

    def carry_disk(self) -> None:
        backup, primary = self.lab.backup, self.lab.primary
        content = backup.disk_file("travel")
        backup.remove_disk("travel")
        primary.add_disk("travel", TRAVEL_SIZE)
        there = primary.disk_file("travel")
        primary.remove_disk("travel")
        shutil.copyfile(content, there)
        primary.add_disk("travel", TRAVEL_SIZE)

    def slow_down(self) -> None:
        self.lab.backup.netem("thin", delay_ms=150, rate_bits_per_second=SLOW_BITS_PER_SECOND)

    def begin_merge(self) -> None:
        self.make_volume()
        self.lab.backup.netem("bulk", rate_bits_per_second=SLOW_BITS_PER_SECOND)
        self.lab.backup.run("tcmu-restore snapshot-create block/vm01 vm01-1 --portal 10.77.2.1")
        url = "iscsi://10.77.2.1/iqn.2026-11.org.example:vm01:snapshot-vm01-1/0"
        self.lab.primary.run(
            f"tcmu-restore attach-snapshot vm01 {url}; tcmu-restore merge start vm01"
        )

    def cut_power(self) -> None:
        lose_power(self.lab.backup, self.lab.primary)

    def close(self) -> None:
        for link in ("thin", "bulk"):
            self.lab.backup.netem(link)
        self.clean()
        for name in ("disk1", "disk2", "travel"):
            self.lab.primary.discard_disk(name)
        self.lab.backup.discard_disk("travel")


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Iterator[LabStage]:
    stage = LabStage(lab)
    yield stage
    stage.close()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_is_typed_works_as_written(stage: LabStage, path: Path) -> None:
    try:
        run_steps(path, read_steps(path), stage.run, stage.happen)
    except Exception:
        print(stage.lab.primary.run("tail -n 40 /var/log/tcmu-runner.log"))
        raise
    finally:
        stage.lab.backup.netem("thin")
