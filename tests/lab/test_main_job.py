"""The main job on real kernels, step by step; each test is one line of what was promised."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vagrant.lab import Lab
from vagrant.scene import Scene

from .pattern import MIB, RANDOM_FILL, digest_at, write_pattern

pytestmark = pytest.mark.lab

SIZE = 64 * MIB


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    """A volume whose backup holds random bytes and one hole of 16 MiB at its end."""
    scene = Scene(lab, "job", SIZE)
    scene.make_backup(RANDOM_FILL.format(SIZE // MIB))
    scene.add_blank_disk()
    scene.create_volume()
    scene.export_volume()
    yield scene
    print(lab.primary.run("tail -n 40 /var/log/tcmu-runner.log"))


@pytest.fixture(scope="module")
def device(scene: Scene) -> str:
    return scene.log_in()


def test_lun_reads_as_the_backup_does_at_once(scene: Scene, device: str) -> None:
    at = 4 * MIB, MIB
    served = scene.lab.initiator.run(digest_at(device, *at))
    assert served == scene.lab.backup.run(digest_at(scene.backup_device, *at))
    assert scene.status()["state"] == "restoring"


def test_second_read_of_a_populated_block_costs_the_backup_nothing(
    scene: Scene, device: str
) -> None:
    initiator = scene.lab.initiator
    read = digest_at(device, 4 * MIB, MIB)
    first = initiator.run(read)
    before = scene.backup_commands()
    link_before = scene.lab.backup.read_counter("thin")
    assert initiator.run(read) == first
    # keep-alives are no SCSI commands of the LUN
    assert scene.backup_commands() == before
    assert scene.lab.backup.read_counter("thin").sent - link_before.sent < MIB // 8


def test_write_is_on_both_disks_when_it_is_flushed(scene: Scene, device: str) -> None:
    lab, at = scene.lab, (8 * MIB, MIB)
    lab.initiator.run(write_pattern(device, *at, "both"))
    written = lab.initiator.run(digest_at(device, *at))
    assert lab.primary.run(digest_at(scene.primary_disk, *at)) == written
    assert lab.backup.run(digest_at(scene.backup_device, *at)) == written
    assert written != lab.initiator.run(digest_at(device, 4 * MIB, MIB))


def test_merge_keeps_newer_writes_and_sends_only_what_is_lost(scene: Scene, device: str) -> None:
    lab = scene.lab
    scene.take_snapshot()
    at = 12 * MIB, 2 * MIB
    lab.initiator.run(write_pattern(device, *at, "newer"))
    newer = lab.initiator.run(digest_at(device, *at))
    assert newer != lab.backup.run(digest_at(f"/dev/backup/{scene.name}-snap", *at))
    lost = scene.status()["regions"]["lost"] * 4096
    before = lab.primary.read_counter("bulk").received
    scene.restore(f"attach-snapshot {scene.name} {scene.snapshot_url}")
    scene.restore(f"merge start {scene.name} --wait")
    sent = lab.primary.read_counter("bulk").received - before
    assert lab.initiator.run(digest_at(device, *at)) == newer  # MRG-1
    assert lab.primary.run(digest_at(scene.primary_disk, *at)) == newer
    counters = scene.status()["counters"]
    assert counters["regions_skipped_current"] * 4096 >= 4 * MIB
    # a current region costs no byte: the link carried what was lost, and a few percent of headers
    assert lost < SIZE - 4 * MIB
    assert lost <= sent < lost * 1.06


def test_all_three_are_equal_and_the_backup_is_not_needed(scene: Scene, device: str) -> None:
    lab = scene.lab
    assert scene.status()["state"] == "in_sync"
    on_primary = scene.digest(lab.primary, scene.primary_disk)
    assert on_primary == scene.digest(lab.backup, scene.backup_device)
    lab.primary.cut("thin")
    try:
        assert scene.digest(lab.initiator, device) == on_primary
    finally:
        lab.primary.restore("thin")
