"""The primary disk is pulled out and another one put in, under load; twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vagrant.errors import GuestScriptError
from vagrant.lab import Lab

from .load import Load
from .served import has
from .stage import ZONE, Stage, staged

NOTICE_SECONDS = 15
SLOW_BITS_PER_SECOND = 8_000_000
"""Of the bulk link: a merge of 32 MiB takes half a minute, time to lose a disk in."""


def disks_replaced(lab: Lab) -> None:
    """A removal is noticed without any I/O. The next disk is pulled out while a merge fills it; its
    successor is merged to the end."""
    with staged(lab, "swapped") as stage:
        load = Load(stage)
        load.go_on()
        load.pause()
        stage.remove_disk()
        status = stage.wait_until("diskless", has("diskless"), NOTICE_SECONDS)
        print(f"noticed: {status['primary']}")
        load.resume()
        load.go_on()
        second = stage.replace_disk()
        load.go_on()
        _lose_in_merge(second)
        load.go_on()
        third = second.replace_disk()
        load.go_on()
        _give_up_old_snapshot(third)
        third.merge()
        _finish(third, load)


def _lose_in_merge(stage: Stage) -> None:
    stage.lab.backup.netem("bulk", rate_bits_per_second=SLOW_BITS_PER_SECOND)
    try:
        stage.start_merge()
        stage.wait_until("merging", lambda s: s["counters"]["regions_merged"] > 0)
        stage.remove_disk()
        stage.wait_until("diskless", has("diskless"))
    finally:
        stage.lab.backup.netem("bulk")


def _give_up_old_snapshot(stage: Stage) -> None:
    """The snapshot is older than what was written since, and lost now: it must not be used."""
    status = stage.status()
    print(f"merge after the replacement: {status['merge']}, snapshot {status['snapshot']}")
    if status["merge"]["state"] in ("running", "paused"):
        stage.call("MergeCancel")
    stage.drop_snapshot()


def _finish(stage: Stage, load: Load) -> None:
    load.stop()
    load.check()
    stage.check_file_system()
    stage.check_equal()


def outdated_accepted(lab: Lab) -> None:
    """What only the failed disk had is never served as older bytes until the admin accepts it."""
    with staged(lab, "outdated") as stage:
        load = Load(stage)
        stage.read_all()
        load.go_on()
        load.pause()
        stage.wait_until("in sync", has("in_sync"))
        with _frozen_file_system(stage):
            _lose_newest_bytes(stage)
        load.resume()
        load.go_on()
        replaced = stage.replace_disk()
        replaced.merge()
        _finish(replaced, load)


@contextmanager
def _frozen_file_system(stage: Stage) -> Iterator[None]:
    """Keep ext4 from writing by itself meanwhile: its bytes would be lost too."""
    stage.lab.initiator.run(f"fsfreeze -f {stage.folder}")
    try:
        yield
    finally:
        stage.lab.initiator.run(f"fsfreeze -u {stage.folder}")


def _lose_newest_bytes(stage: Stage) -> None:
    """Write while the backup is away, lose the disk, and give these bytes up."""
    fresh, other = stage.size - 2 * ZONE, stage.size - ZONE
    lab = stage.lab
    # flushed on both sides: what the backup only had in its cache would be outdated as well (MIR-2)
    lab.initiator.run(_write_block(stage, other))
    lab.primary.cut("thin")
    try:
        stage.wait_until("degraded", has("degraded"))
        lab.initiator.run(_write_block(stage, fresh))
        stage.remove_disk()
        stage.wait_until("failed", has("failed"))
    finally:
        lab.primary.restore("thin")
    status = stage.wait_until("outdated", lambda s: has("outdated")(s) and not has("failed")(s))
    assert status["outdated_extents"] == [[fresh, 4096]]
    lab.initiator.run(_read_block(stage, other))
    with pytest.raises(GuestScriptError):
        lab.initiator.run(_read_block(stage, fresh))
    stage.restore(f"accept-outdated {stage.name} --offset {fresh} --length 4096 --yes")
    older = lab.initiator.run(f"{_read_block(stage, fresh)} | tr -d '\\0' | wc -c")
    assert older.strip() == "0"


def _write_block(stage: Stage, offset: int) -> str:
    return (
        f"head -c 4096 /dev/zero | tr '\\0' x | dd of={stage.device} bs=4k seek={offset // 4096} "
        "iflag=fullblock oflag=direct conv=notrunc,fdatasync status=none"
    )


def _read_block(stage: Stage, offset: int) -> str:
    return f"dd if={stage.device} bs=4k skip={offset // 4096} count=1 iflag=direct status=none"
