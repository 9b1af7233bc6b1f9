"""The primary disk fails, a few sectors of it first and then all; the initiator notices nothing."""

from __future__ import annotations

import random

from vagrant.lab import Lab

from .load import Load
from .stage import BLOCKS, ZONE, Stage, staged

BAD_SECTORS = 24


def sectors_then_disk(lab: Lab) -> None:
    """Unreadable sectors are fetched and rewritten; then the volume goes on without its disk."""
    with staged(lab, "sectors") as stage:
        load = Load(stage)
        stage.read_all()
        load.go_on()
        _spoil_sectors(stage)
        load.go_on()
        stage.read_all()
        status = stage.status()
        assert stage.disk.unreadable_size == 0, "some sectors were not rewritten"
        assert status["counters"]["regions_repaired"] > 0
        assert status["primary"]["state"] == "ok"
        _declare_wrong_bytes_lost(stage)
        stage.disk.die()
        load.go_on()
        stage.wait_until("diskless", lambda status: status["state"] == "diskless")
        load.go_on()
        load.stop()
        load.check()
        stage.check_file_system()
        served = stage.digest(lab.initiator, stage.device)
        assert served == stage.digest(lab.backup, stage.backup_device)


def _spoil_sectors(stage: Stage) -> None:
    """Let single sectors and pairs fail, of blocks and of the file system."""
    chance = random.Random(stage.name)
    for _ in range(BAD_SECTORS):
        sector = chance.randrange(2 * BLOCKS * 8)
        stage.disk.fail_reads(sector * 512, 512 * chance.randint(1, 2))
    stage.lab.primary.run("echo 3 >/proc/sys/vm/drop_caches")


def _declare_wrong_bytes_lost(stage: Stage) -> None:
    """The disk changes bytes without an error; the admin says so, and the backup's are back."""
    offset = stage.size - ZONE
    block = f"bs=4k count=16 skip={offset // 4096} iflag=direct status=none | sha256sum"
    read = f"dd if={stage.device} {block}"
    right = stage.lab.initiator.run(read)
    stage.lab.primary.run(
        f"dd if=/dev/urandom of={stage.primary_disk} bs=4k count=16 seek={offset // 4096} "
        "oflag=direct conv=notrunc status=none; echo 3 >/proc/sys/vm/drop_caches"
    )
    assert stage.lab.initiator.run(read) != right
    stage.restore(f"declare-lost {stage.name} --offset {offset} --length 65536 --yes")
    assert stage.lab.initiator.run(read) == right
