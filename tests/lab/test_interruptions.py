"""Restarts and reboots in the middle of the job, and a backup that is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from vagrant.errors import GuestScriptError
from vagrant.lab import Lab
from vagrant.scene import Scene

from .pattern import MIB, RANDOM_FILL, digest_at, write_pattern

pytestmark = pytest.mark.lab

SIZE = 96 * MIB
BULK_BITS_PER_SECOND = 6_000_000
"""Slow enough that a merge of SIZE takes two minutes: time to interrupt it."""


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    """A volume with a host on it, and a merge on its way over a slow bulk link."""
    scene = Scene(lab, "stop", SIZE)
    scene.make_backup(RANDOM_FILL.format(SIZE // MIB))
    scene.add_blank_disk()
    scene.create_volume()
    scene.export_volume()
    scene.take_snapshot()
    yield scene
    lab.backup.netem("bulk")
    print(lab.primary.run("tail -n 60 /var/log/tcmu-runner.log"))


def wait_until(scene: Scene, what: str, check: Any, seconds: float = 120) -> dict[str, Any]:
    """Ask for the status until *check* holds."""
    end = time.monotonic() + seconds
    while True:
        try:
            status = scene.status()
        except GuestScriptError as error:
            status = {"error": str(error)}
        if "error" not in status and check(status):
            return status
        assert time.monotonic() < end, f"{what}: {status}"


def merged(status: dict[str, Any]) -> int:
    return int(status["counters"]["regions_merged"])


def test_restart_and_reboot_in_mid_merge(scene: Scene) -> None:
    lab = scene.lab
    device = scene.log_in()
    lab.initiator.run(write_pattern(device, 0, MIB, "before"))
    before = lab.initiator.run(digest_at(device, 0, MIB))
    lab.backup.netem("bulk", rate_bits_per_second=BULK_BITS_PER_SECOND)
    scene.attach_and_merge()
    wait_until(scene, "some is merged", lambda s: merged(s) > 0)
    lab.primary.run("sleep 6")  # one interval of the background commits
    before_restart = merged(scene.status())

    lab.primary.run("systemctl restart tcmu-runner", timeout_seconds=120)
    status = wait_until(scene, "merge goes on", lambda s: s["merge"]["state"] == "running")
    assert merged(status) >= before_restart > 0  # nothing is forgotten
    assert lab.initiator.run(digest_at(device, 0, MIB), timeout_seconds=180) == before
    scene.log_out()

    wait_until(scene, "more is merged", lambda s: merged(s) > before_restart)
    lab.primary.reboot()
    lab.primary.run("modprobe target_core_user")
    status = wait_until(
        scene, "merge goes on", lambda s: s["merge"]["state"] in ("running", "done")
    )
    assert "lun0" in lab.primary.run(f"targetcli ls /iscsi/iqn.2026-11.org.example:{scene.name}")
    lab.backup.netem("bulk")
    status = wait_until(scene, "merge is done", lambda s: s["merge"]["state"] == "done")
    copied = status["counters"]["bytes_merged"]
    # twice only what was not committed at the restart and at the reboot: none, both were clean
    assert copied <= SIZE
    device = scene.log_in()
    assert lab.initiator.run(digest_at(device, 0, MIB)) == before
    on_primary = scene.digest(lab.primary, scene.primary_disk)
    assert on_primary == scene.digest(lab.backup, scene.backup_device)
    assert on_primary == scene.digest(lab.initiator, device)
    scene.log_out()


def test_backup_unreachable_at_start(lab: Lab) -> None:
    scene = Scene(lab, "away", 32 * MIB)
    scene.make_backup(RANDOM_FILL.format(32))
    scene.add_blank_disk()
    scene.create_volume()
    path = f"/etc/tcmu-restore/volumes/{scene.name}.toml"
    options = "[options]\\nhold_seconds = 2\\nlost_read_deadline_seconds = 15\\n"
    lab.primary.run(f"printf '{options}' >>{path}")
    scene.export_volume()
    device = scene.log_in()
    expected = lab.initiator.run(digest_at(device, 0, MIB))
    lab.initiator.run("sync")
    lab.primary.cut("thin")
    try:
        lab.primary.run("systemctl restart tcmu-runner", timeout_seconds=120)
        # current regions are served; lost ones BUSY, then MEDIUM ERROR (ENODATA), never zeros
        assert lab.initiator.run(digest_at(device, 0, MIB), timeout_seconds=120) == expected
        with pytest.raises(GuestScriptError, match="No data available"):
            lab.initiator.run(
                f"dd if={device} of=/dev/null bs=64k skip=100 count=1 iflag=direct",
                timeout_seconds=200,
            )
        assert scene.status()["state"] == "degraded"
    finally:
        lab.primary.restore("thin")
    wait_until(scene, "the backup is back", lambda s: s["backup"]["reachable"])
    at = 8 * MIB, 4 * MIB
    lost = lab.initiator.run(digest_at(device, *at), timeout_seconds=120)
    assert lost == lab.backup.run(digest_at(scene.backup_device, *at))
    scene.log_out()
