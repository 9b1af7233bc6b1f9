"""Links on real kernels: a bulk one that commands bring up, and a live one like a telephone's."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from vagrant.errors import GuestScriptError
from vagrant.lab import Lab
from vagrant.scene import THIN_BACKUP

from .failures.served import call_words
from .failures.stage import MIB, Stage, staged

pytestmark = [pytest.mark.lab, pytest.mark.long]

HANG = """#!/bin/sh
grep SigBlk /proc/self/status >/run/links-signals
sleep 1000 & echo $! >{}
wait
"""

IP = "/sbin/ip link set bulk"
REACHED_OVER = "interface s bulk sessions u 2 rate_max t 2000000"
"""At most 2 MB/s: a merge of 32 MiB leaves time to cut the link in."""


def attach_words(stage: Stage, up: str, down: str = f"{IP} down", timeout: int = 20) -> str:
    """Return the call that attaches the snapshot over the bulk link."""
    settings = " ".join(
        f"{name} as {len(words.split())} {words}"
        for name, words in (("link_up", up), ("link_down", down))
    )
    settings = f"6 {settings} link_timeout_seconds u {timeout} {REACHED_OVER}"
    arguments = f"{stage.snapshot_url} {settings}"
    return call_words("AttachSnapshot", stage.name, "sa{sv}", arguments)


def is_bulk_up(lab: Lab) -> bool:
    """Whether the interface is administratively up."""
    return "UP" in json.loads(lab.primary.run("ip -j link show bulk"))[0]["flags"]


def read_words(stage: Stage, offset: int, length: int = 4096) -> str:
    """Return the command that reads one extent of the LUN past every cache."""
    return (
        f"dd if={stage.device} of=/dev/null bs={length} count=1 skip={offset} "
        "iflag=direct,skip_bytes status=none"
    )


def refused(lab: Lab, words: str) -> str:
    """Run *words*, which must fail, and return what is said."""
    with pytest.raises(GuestScriptError) as caught:
        lab.primary.run(words)
    return str(caught.value)


def test_bulk_link_is_up_only_for_the_merge_which_survives_its_loss(lab: Lab) -> None:
    with staged(lab, "links", has_file_system=False) as stage:
        stage.call("PrepareSnapshot")
        stage.take_snapshot()
        lab.primary.run(f"{IP} down")
        try:
            check_commands_that_fail(stage)
            lab.primary.run(attach_words(stage, f"{IP} up"))
            assert is_bulk_up(lab)
            link = stage.status()["bulk_link"]
            assert link["state"] == "up"
            assert link["take_down"] == f"tcmu-restore link down {stage.name}"
            check_fastest_source(stage)
            check_loss_of_the_bulk_link(stage)
            stage.wait_until("down", lambda status: status["bulk_link"]["state"] == "down")
            assert not is_bulk_up(lab)
            stage.drop_snapshot()
            stage.check_equal()
        finally:
            lab.primary.run(f"{IP} up")


def check_commands_that_fail(stage: Stage) -> None:
    """One that fails, and one that hangs with a child: a sentence each, and nothing is attached."""
    lab = stage.lab
    said = refused(lab, attach_words(stage, "/bin/false"))
    assert "/bin/false failed with status 1" in said
    child = "/run/links-child"
    lab.primary.put("/root/hang", HANG.format(child).encode(), mode=0o755)
    said = refused(lab, attach_words(stage, "/root/hang", timeout=2))
    assert "/root/hang was killed: it had not ended after 2 s" in said
    assert "no merge was started" in said
    lab.primary.run(
        f"for i in $(seq 50); do kill -0 $(cat {child}) || exit 0; sleep 0.1; done; exit 1"
    )
    print("signals blocked in a link command:", lab.primary.run("cat /run/links-signals"))
    status = stage.status()
    assert status["snapshot"] is None
    assert status["merge"]["state"] == "idle"
    assert not is_bulk_up(lab)


def check_fastest_source(stage: Stage) -> None:
    """A slow live link: lost regions come over the bulk link; and back when it is the slow one."""
    lab = stage.lab

    def read_some(first: int) -> dict[str, Any]:
        words = [read_words(stage, MIB + (first + n) * 65536) for n in range(24)]
        lab.initiator.run("\n".join(words))
        return stage.status()

    lab.backup.netem("thin", delay_ms=120)
    try:
        before, status = stage.status()["counters"], read_some(0)
        assert status["snapshot"]["asked_first"], status["snapshot"]
        count = "reads_from_snapshot"
        assert status["counters"][count] - before.get(count, 0) >= 12
        print(
            "live link slow:", *(status[leg]["read_latency_ms"] for leg in ("backup", "snapshot"))
        )
        lab.backup.netem("thin")
        lab.backup.netem("bulk", delay_ms=240)
        time.sleep(5)  # a probe of the live link is due again
        status = read_some(24)
        assert status["backup"]["asked_first"], status["backup"]
        print(
            "bulk link slow:", *(status[leg]["read_latency_ms"] for leg in ("backup", "snapshot"))
        )
    finally:
        lab.backup.netem("thin")
        lab.backup.netem("bulk")


def check_loss_of_the_bulk_link(stage: Stage) -> None:
    """Cut in mid-merge: the merge waits, the LUN answers; the link is back: the merge ends."""
    lab = stage.lab
    stage.call("MergeStart")
    stage.wait_until("merging", lambda status: status["counters"]["regions_merged"] > 200)
    lab.primary.cut("bulk")
    try:
        status = stage.wait_until(
            "waiting", lambda s: s["merge"]["reason"].startswith("waiting for the bulk link")
        )
        assert status["merge"]["state"] == "running"
        began = time.monotonic()
        lab.initiator.run(read_words(stage, stage.size - MIB))
        print(f"while the merge waits a read takes {time.monotonic() - began:.2f} s")
    finally:
        lab.primary.restore("bulk")
    stage.wait_until("merged", lambda status: status["merge"]["state"] == "done")


# --- a telephone line ---------------------------------------------------------------------------


@contextmanager
def telephone(lab: Lab) -> Iterator[None]:
    """The thin link has 56 kbit/s and 300 ms, either way."""
    for machine in (lab.backup, lab.primary):
        machine.netem("thin", delay_ms=300, rate_bits_per_second=56_000)
    try:
        yield
    finally:
        for machine in (lab.backup, lab.primary):
            machine.netem("thin")


COMPLAINTS = "dmesg | grep -ciE 'abort|reset|timed out|timing out|I/O error|offline' || true"


def timed_read(stage: Stage, offset: int, length: int = 4096) -> float:
    """Read one extent; return how many seconds it took."""
    began = time.monotonic()
    stage.lab.initiator.run(read_words(stage, offset, length))
    return time.monotonic() - began


def test_telephone_line_serves_and_the_merge_creeps_on(lab: Lab) -> None:
    with staged(lab, "phone", has_file_system=False) as stage:
        stage.call("PrepareSnapshot")
        stage.take_snapshot()
        snapshot = shlex.quote(f"{stage.name}-snap")
        lab.backup.run(
            f"lab-export {snapshot} - --remove\n"
            f"lab-export {snapshot} /dev/backup/{snapshot} --portal {THIN_BACKUP} --read-only"
        )
        complaints = lab.initiator.run(COMPLAINTS)
        with telephone(lab):
            print(f"4 KiB: {timed_read(stage, 0):.1f} s")
            print(f"64 KiB: {timed_read(stage, MIB, 65536):.1f} s")
            # longer than a read may wait: answered BUSY meanwhile, and asked for again
            print(f"192 KiB: {timed_read(stage, 2 * MIB, 196608):.1f} s")
            url = stage.snapshot_url.replace("10.77.2.1", THIN_BACKUP)
            stage.call("AttachSnapshot", "sa{sv}", f"{url} 0")
            stage.call("MergeStart")
            creeps(stage)
            print(f"4 KiB beside the merge: {timed_read(stage, 4 * MIB):.1f} s")
            lab.primary.run("systemctl restart tcmu-runner")
            print(f"4 KiB after a restart: {timed_read(stage, 4 * MIB + 65536):.1f} s")
            creeps(stage)
            status = stage.status()
            print({key: status["backup"][key] for key in ("read_latency_ms", "session_losses")})
            assert status["merge"]["state"] == "running"
            assert status["backup"]["session_losses"] == 0
        assert lab.initiator.run(COMPLAINTS) == complaints
        stage.wait_until("merged", lambda status: status["merge"]["state"] == "done")
        stage.drop_snapshot()
        stage.check_equal()


def creeps(stage: Stage) -> None:
    """Wait until the merge has copied something over the line."""
    start = stage.status()["counters"]["bytes_merged"]
    began = time.monotonic()
    status = stage.wait_until("creeping", lambda s: s["counters"]["bytes_merged"] >= start + 32768)
    sent = status["counters"]["bytes_merged"] - start
    print(f"merged {sent} bytes in {time.monotonic() - began:.0f} s; {status['merge']['reason']}")
