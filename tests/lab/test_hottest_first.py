"""What hosts read most is merged first: seen on real kernels, with and without.

There is no switch for it: without, the installed module has a bar that nothing is hot enough for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from vagrant.lab import Lab

from .failures.stage import MIB, Stage, staged

pytestmark = [pytest.mark.lab, pytest.mark.long]

SIZE = 64 * MIB
HOT = (20, 33, 47, 58)
"""The MiB that the host reads, random blocks of 4 KiB."""

BULK_BITS_PER_SECOND = 8_000_000
"""A merge takes a minute."""

READS_PER_SECOND = 8
SAMPLE_SECONDS = 3.0

READER = """import mmap, os, random, sys, time
device, count, per_second, *hot = sys.argv[1:]
file, memory = os.open(device, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 4096)
for number in range(int(count)):
    offset = int(random.choice(hot)) * 1048576 + random.randrange(256) * 4096
    assert os.preadv(file, [memory], offset) == 4096
    if os.path.exists("/run/reader.stop"):
        break
    if float(per_second):
        time.sleep(1 / float(per_second))
"""


def reader_words(stage: Stage, count: int, per_second: float = 0) -> str:
    """Return the command that reads *count* blocks of the hot parts; 0 a second is unlimited."""
    hot = " ".join(map(str, HOT))
    return f"rm -f /run/reader.stop; python3 /root/reader {stage.device} {count} {per_second} {hot}"


@contextmanager
def nothing_is_hot(lab: Lab) -> Iterator[None]:
    """The merge goes in order, whatever was counted."""

    def edit(before: str, after: str) -> None:
        lab.primary.run(
            "file=$(python3 -c 'import tcmu_restore.core.heat as found; print(found.__file__)')\n"
            f"sed -i 's/^HOT_MIN = {before}$/HOT_MIN = {after}/' $file\n"
            f"grep -q '^HOT_MIN = {after}$' $file\nsystemctl restart tcmu-runner"
        )

    edit("4", "1e18")
    try:
        yield
    finally:
        edit("1e18", "4")


def sample(stage: Stage) -> list[dict[str, Any]]:
    """Return the status every few seconds, until the merge is done."""
    found = [stage.status()]
    while found[-1]["merge"]["state"] != "done":
        time.sleep(SAMPLE_SECONDS)
        found.append(stage.status())
        assert len(found) < 100, found[-1]["merge"]
    return found


def local_shares(found: list[dict[str, Any]]) -> list[float]:
    """Return the share of the reads that the primary served, between each two samples."""
    shares = []
    for before, after in pairwise(found):
        primary, backup, snapshot = (
            after["counters"][name] - before["counters"].get(name, 0)
            for name in ("reads_from_primary", "reads_from_backup", "reads_from_snapshot")
        )
        shares.append(primary / max(1, primary + backup + snapshot))
    return shares


def restore(stage: Stage) -> list[dict[str, Any]]:
    """Lose everything, and merge it while a host reads; return the status over time."""
    lab = stage.lab
    stage.restore(f"declare-lost {stage.name} --yes")
    lab.backup.netem("bulk", rate_bits_per_second=BULK_BITS_PER_SECOND)
    reader = lab.initiator.start_script(reader_words(stage, 10_000, READS_PER_SECOND))
    try:
        stage.start_merge()
        found = sample(stage)
    finally:
        lab.backup.netem("bulk")
        lab.initiator.run("touch /run/reader.stop")
        reader.wait()
    stage.drop_snapshot()
    return found


def test_what_hosts_read_most_is_local_first(
    lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    with staged(lab, "hot", size=SIZE, has_file_system=False) as stage:
        stage.read_all()
        lab.initiator.put("/root/reader", READER.encode())
        lab.initiator.run(reader_words(stage, 400))
        assert stage.status()["heat"]["hot_bytes"] == len(HOT) * MIB

        hottest_first = restore(stage)
        first = next(
            status
            for status in hottest_first
            if status["heat"]["hot_bytes_current"] == status["heat"]["hot_bytes"]
        )
        assert first["regions"]["lost"] * 4096 > SIZE // 2
        with nothing_is_hot(lab):
            stage.wait_until("served again", lambda status: status["state"] == "in_sync")
            in_order = restore(stage)
            assert {status["heat"]["hot_bytes"] for status in in_order} == {0}
        for way, found in (("hottest first", hottest_first), ("in order", in_order)):
            shares = local_shares(found)
            quarter = shares[: max(1, len(shares) // 4)]
            record_property(
                "measured",
                f"local reads, {way}: {sum(quarter) / len(quarter):.0%} in the merge's first"
                f" quarter, {sum(shares) / len(shares):.0%} in all; every {SAMPLE_SECONDS:g} s: "
                + " ".join(f"{share:.0%}" for share in shares),
            )
        stage.check_equal()
