"""The lab itself: what every other lab test takes for granted."""

from __future__ import annotations

import hashlib
import re

import pytest

from vagrant.errors import GuestScriptError, GuestTimeoutError
from vagrant.lab import Lab
from vagrant.machine import Machine

pytestmark = pytest.mark.lab

MIB = 1 << 20


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def average_ping_ms(machine: Machine, address: str) -> float:
    output = machine.run(f"ping -q -i 0.2 -c 5 {address}")
    found = re.search(r"= [\d.]+/([\d.]+)/", output)
    assert found, output
    return float(found.group(1))


@pytest.fixture(scope="module")
def export(lab: Lab) -> str:
    """A thin volume served by the backup machine; its IQN."""
    lab.backup.run("lab-thin create tried 256M")
    portals = " ".join(f"--portal {lab.backup.address(link)}" for link in ("thin", "bulk"))
    return lab.backup.run(f"lab-export tried /dev/backup/tried {portals}").strip()


def log_in(machine: Machine, address: str, iqn: str) -> str:
    """Log in and return the disk's device."""
    machine.run(
        f"iscsiadm -m discovery -t sendtargets -p {address}\n"
        f"iscsiadm -m node -T {iqn} -p {address} --login"
    )
    path = f"/dev/disk/by-path/ip-{address}:3260-iscsi-{iqn}-lun-0"
    machine.run(f"until [ -e {path} ]; do sleep 0.1; done", timeout_seconds=120)
    return path


def log_out(machine: Machine, address: str, iqn: str) -> None:
    machine.run(f"iscsiadm -m node -T {iqn} -p {address} --logout")
    machine.run(f"iscsiadm -m node -T {iqn} -p {address} -o delete")


def test_machines_after_boot_have_no_failed_unit(lab: Lab) -> None:
    for machine in lab.machines:
        assert machine.run("hostname").strip() == machine.name
        assert machine.run("systemctl list-units --failed --plain --no-legend") == ""


def test_links_reach_exactly_the_machines_they_join(lab: Lab) -> None:
    for link in ("thin", "bulk"):
        lab.primary.run(f"ping -q -c 1 -W 5 {lab.backup.address(link)}")
    lab.initiator.run(f"ping -q -c 1 -W 5 {lab.primary.address('front')}")
    with pytest.raises(GuestScriptError):
        lab.initiator.run(f"ping -q -c 1 -W 1 {lab.backup.address('thin')}")


def test_script_that_fails_or_hangs_is_reported(lab: Lab) -> None:
    with pytest.raises(GuestScriptError, match="said this") as failed:
        lab.backup.run("echo said this; false; echo not this")
    assert failed.value.status == 1
    assert "not this" not in failed.value.output
    with pytest.raises(GuestTimeoutError, match="begun"):
        lab.backup.run("echo begun; sleep 1000", timeout_seconds=2)
    job = lab.backup.start_script("sleep 1000")
    job.kill()
    with pytest.raises(GuestScriptError):
        job.wait()


def test_files_put_and_got_are_the_same(lab: Lab) -> None:
    content = bytes(range(256)) * 2400
    lab.initiator.put("/root/some folder/file", content, mode=0o600)
    assert lab.initiator.get("/root/some folder/file") == content
    assert lab.initiator.run("stat -c %a '/root/some folder/file'").strip() == "600"


def test_primary_reads_and_writes_thin_volume_of_backup(lab: Lab, export: str) -> None:
    for link in ("thin", "bulk"):
        address = lab.backup.address(link)
        disk = log_in(lab.primary, address, export)
        before = lab.primary.read_counter(link)
        lab.primary.run(
            f"dd if=/dev/urandom of=/root/sample bs=1M count=4 status=none\n"
            f"dd if=/root/sample of={disk} bs=1M oflag=direct status=none\n"
            f"dd if={disk} of=/root/readback bs=1M count=4 iflag=direct status=none\n"
            f"cmp /root/sample /root/readback"
        )
        after = lab.primary.read_counter(link)
        assert after.sent - before.sent > 4 * MIB
        assert after.received - before.received > 4 * MIB
        log_out(lab.primary, address, export)


def test_snapshot_of_thin_volume_keeps_what_volume_held(lab: Lab, export: str) -> None:
    assert export
    lab.backup.run(
        "echo before | dd of=/dev/backup/tried bs=512 conv=sync,fsync oflag=direct status=none\n"
        "lab-thin snapshot tried frozen\n"
        "echo after | dd of=/dev/backup/tried bs=512 conv=sync,fsync oflag=direct status=none"
    )
    assert lab.backup.run("head -c 6 /dev/backup/frozen") == "before"
    lab.backup.run("lab-thin remove frozen")


def test_initiator_uses_lun_of_primary_through_stock_handler(lab: Lab) -> None:
    """Stock `user:qcow` over a raw file: tcmu-runner works in the primary."""
    lab.primary.run("truncate -s 64M /root/stock.raw")
    iqn = lab.primary.run("lab-export stock qcow//root/stock.raw --plugin user --size 64M").strip()
    address = lab.primary.address("front")
    disk = log_in(lab.initiator, address, iqn)
    lab.initiator.run(
        f"mkfs.ext4 -q {disk}; mount {disk} /mnt; echo kept >/mnt/file; umount /mnt",
        timeout_seconds=240,
    )
    log_out(lab.initiator, address, iqn)
    lab.primary.run("lab-export stock - --remove; mount -o ro,loop /root/stock.raw /mnt")
    assert lab.primary.run("cat /mnt/file; umount /mnt") == "kept\n"


def test_netem_delays_and_stops_delaying(lab: Lab) -> None:
    address = lab.backup.address("thin")
    lab.primary.netem("thin", delay_ms=100)
    assert 100 <= average_ping_ms(lab.primary, address) < 200
    lab.primary.netem("thin")
    assert average_ping_ms(lab.primary, address) < 60


def test_cut_link_passes_nothing_until_restored(lab: Lab) -> None:
    ping = f"ping -q -c 1 -W 2 {lab.backup.address('bulk')}"
    lab.primary.cut("bulk")
    with pytest.raises(GuestScriptError):
        lab.primary.run(ping)
    lab.primary.restore("bulk")
    lab.primary.run(f"until {ping}; do sleep 0.2; done", timeout_seconds=30)


def test_hot_plugged_disk_appears_and_goes(lab: Lab) -> None:
    disk = lab.primary.add_disk("carried", 64 * MIB)
    assert int(lab.primary.run(f"blockdev --getsize64 {disk}")) == 64 * MIB
    lab.primary.run(f"echo mark | dd of={disk} bs=512 conv=sync oflag=direct status=none")
    lab.primary.remove_disk("carried")
    lab.primary.run(f"until [ ! -e {disk} ]; do sleep 0.1; done", timeout_seconds=30)
    lab.primary.add_disk("carried", 64 * MIB)
    assert lab.primary.run(f"head -c 4 {disk}") == "mark"
    lab.primary.remove_disk("carried")


def test_reboot_keeps_root_disks_and_exports(lab: Lab, export: str) -> None:
    marker = "/root/kept-over-reboot"
    before = lab.backup.run(f"echo yes >{marker}; cat /proc/sys/kernel/random/boot_id")
    lab.backup.reboot()
    assert lab.backup.run("cat /proc/sys/kernel/random/boot_id") != before
    assert lab.backup.run(f"cat {marker}") == "yes\n"
    address = lab.backup.address("thin")
    lab.primary.run(f"ping -q -c 1 -W 5 {address}")
    disk = log_in(lab.primary, address, export)
    assert int(lab.primary.run(f"blockdev --getsize64 {disk}")) == 256 * MIB
    log_out(lab.primary, address, export)


def test_power_cut_keeps_what_was_flushed_and_no_more(lab: Lab) -> None:
    """Of the root disk, and of a disk with a volatile cache, which loses the rest."""
    machine, blocks = lab.initiator, 256
    disk = machine.add_disk("forgetful", 4 * MIB, volatile=True)
    write = "head -c {} /dev/zero | tr '\\0' {} | dd of={} bs=4k oflag=direct iflag=fullblock {}"
    machine.run(
        "echo yes >/root/kept-over-cut; sync\n"
        f"{write.format(blocks * 4096, 'a', disk, 'conv=fsync')}\n"
        f"grep -q 'write back' /sys/block/$(basename $(readlink {disk}))/queue/write_cache\n"
        f"{write.format(blocks * 2048, 'b', disk, '')}"
    )
    assert machine.volatile_disk("forgetful").cached_size == blocks * 2048
    machine.power_cut()
    assert not machine.is_running
    machine.start()
    assert machine.run("cat /root/kept-over-cut") == "yes\n"
    content = machine.disk_file("forgetful").read_bytes()[: blocks * 4096]
    assert machine.run(f"head -c {blocks * 4096} {disk} | sha256sum").split()[0] == digest(content)
    unflushed, flushed = content[: blocks * 2048], content[blocks * 2048 :]
    assert set(flushed) == {ord("a")}
    assert set(unflushed) == {ord("a"), ord("b")}, "all was kept, or all was lost"
    machine.discard_disk("forgetful")
