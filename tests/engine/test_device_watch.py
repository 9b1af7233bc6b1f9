"""What vanishes is reported once, what appears is offered, and nothing is raised into the loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.engine.device_channel import Channel, open_channels
from tcmu_restore.engine.device_event import (
    DeviceEvent,
    DevicePresence,
    can_concern,
    is_gone,
    parse_event,
    read_presence,
)
from tcmu_restore.engine.device_watch import EVENTS_AT_ONCE, FAILURES_MAX, DeviceWatch
from tests.sources.loop_device import loop_device

DISK, PARTITION = (8, 0), (8, 1)


# --- the pure part --------------------------------------------------------------------------


def event(action: str, number: tuple[int, int], sys_path: str) -> DeviceEvent:
    return DeviceEvent(action, number, sys_path)


@pytest.mark.parametrize(
    ("sys_path", "number", "concerned"),
    [
        ("/sys/block/sda/sda1", PARTITION, True),  # itself
        ("/sys/block/sda", DISK, True),  # its disk
        ("/sys/block/sda/sda2", (8, 2), False),  # a neighbour
        ("/sys/block/sd", (8, 9), False),  # a path is no prefix of a name
        ("/sys/block/elsewhere", PARTITION, True),  # its number, whatever has it now
    ],
)
@pytest.mark.parametrize("action", ["remove", "change"])
def test_event_concerns_the_device_itself_and_what_it_is_a_part_of(
    action: str, sys_path: str, number: tuple[int, int], concerned: bool
) -> None:
    known = DevicePresence("/sys/block/sda/sda1", 8, "5")
    assert can_concern(event(action, number, sys_path), PARTITION, known) is concerned


def test_event_on_a_partition_does_not_concern_its_disk() -> None:
    known = DevicePresence("/sys/block/sda", 8)
    assert not can_concern(event("remove", PARTITION, "/sys/block/sda/sda1"), DISK, known)


def test_event_concerns_by_number_what_was_never_seen() -> None:
    assert can_concern(event("remove", DISK, "/sys/block/sda"), DISK, None)
    assert not can_concern(event("remove", (8, 16), "/sys/block/sdb"), DISK, None)


KNOWN = DevicePresence("/sys/block/sda", 8, "5")


@pytest.mark.parametrize(
    ("known", "now", "gone"),
    [
        (KNOWN, None, True),
        (KNOWN, KNOWN, False),
        (KNOWN, DevicePresence("/sys/block/sda", 16, "5"), False),  # it grew
        (KNOWN, DevicePresence("/sys/block/sda", 0, "5"), True),  # a table or medium that is gone
        (KNOWN, DevicePresence("/sys/block/sda", 8, "6"), True),  # another disk in its place
        (KNOWN, DevicePresence("/sys/block/sdb", 8, "5"), True),  # its number at another place
        (None, None, True),
        (None, KNOWN, False),
    ],
)
def test_gone_is_what_sysfs_no_longer_knows_as_it_was(
    known: DevicePresence | None, now: DevicePresence | None, gone: bool
) -> None:
    assert is_gone(known, now) is gone


# --- a host in a folder ---------------------------------------------------------------------


class FakeHost:
    """Block devices as sysfs shows them."""

    def __init__(self, folder: Path) -> None:
        self.sysfs = folder / "dev"
        self.devices = folder / "devices"
        self.sysfs.mkdir()
        self.devices.mkdir()

    def plug(
        self, number: tuple[int, int], name: str, *, size: int = 8, sequence: str | None = "1"
    ) -> str:
        device = self.devices / name
        device.mkdir(exist_ok=True)
        (device / "size").write_text(f"{size}\n")
        if sequence is not None:
            (device / "diskseq").write_text(f"{sequence}\n")
        link = self.link(number)
        link.unlink(missing_ok=True)
        link.symlink_to(device)
        return str(device)

    def link(self, number: tuple[int, int]) -> Path:
        return self.sysfs / f"{number[0]}:{number[1]}"

    def unplug(self, number: tuple[int, int]) -> None:
        self.link(number).unlink()


@dataclass
class FakeDevice:
    """Stands for ``pyudev.Device``."""

    action: str
    number: tuple[int, int]
    sys_path: str
    device_node: str | None = None
    device_links: list[str] = field(default_factory=list)

    @property
    def device_number(self) -> int:
        return os.makedev(*self.number)


class FakeMonitor:
    """Stands for ``pyudev.Monitor``: readable while there is something to poll."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.pending: list[Any] = []
        self.polls = 0

    def push(self, *items: Any) -> None:
        self.pending += items
        self.theirs.send(b"." * len(items))

    def fileno(self) -> int:
        return self.ours.fileno()

    def poll(self, timeout: float | None = None) -> Any:
        assert timeout == 0, "it must not block the loop"
        self.polls += 1
        if not self.pending:
            return None
        item = self.pending.pop(0)
        self.ours.recv(1)
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@dataclass
class Rig:
    host: FakeHost
    monitor: FakeMonitor
    watch: DeviceWatch
    present: list[Any]
    removed: list[tuple[int, int]] = field(default_factory=list)
    appeared: list[frozenset[str]] = field(default_factory=list)

    def run(self, session: Callable[[], Awaitable[None]]) -> None:
        raised: list[dict[str, Any]] = []

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: raised.append(context))
            self.watch.start(loop)
            await self.settle()
            self.appeared.clear()
            await session()
            self.watch.close()
            self.watch.close()

        asyncio.run(main())
        assert raised == [], "something was raised into the loop"

    async def settle(self) -> None:
        """Let the loop run until nothing is left to read."""
        for _ in range(5 + len(self.monitor.pending)):
            await asyncio.sleep(0)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    host, monitor = FakeHost(tmp_path), FakeMonitor()
    present: list[FakeDevice] = []
    watch = DeviceWatch(
        sysfs=host.sysfs,
        open_channels=lambda: [Channel(monitor, tells_names=True)],
        list_devices=lambda: present,
    )
    rig = Rig(host, monitor, watch, present)
    watch.on_appeared = rig.appeared.append
    yield rig
    monitor.close()


def test_removed_disk_is_reported_once(rig: Rig) -> None:
    path = rig.host.plug(DISK, "sda")

    async def session() -> None:
        rig.watch.register(DISK, rig.removed.append)
        await rig.settle()
        assert rig.removed == []
        rig.host.unplug(DISK)
        rig.monitor.push(FakeDevice("remove", DISK, path), FakeDevice("remove", DISK, path))
        await rig.settle()

    rig.run(session)
    assert rig.removed == [DISK]


def test_partition_is_gone_with_its_disk(rig: Rig) -> None:
    disk = rig.host.plug(DISK, "sda", sequence="7")
    rig.host.plug(PARTITION, "sda/sda1", sequence=None)
    assert read_presence(rig.host.sysfs, PARTITION) == DevicePresence(f"{disk}/sda1", 8, "7")

    async def session() -> None:
        rig.watch.register(PARTITION, rig.removed.append)
        rig.host.unplug(PARTITION)
        rig.monitor.push(FakeDevice("remove", DISK, disk))
        await rig.settle()

    rig.run(session)
    assert rig.removed == [PARTITION]


def test_table_that_is_gone_is_a_loss_and_one_that_changed_is_not(rig: Rig) -> None:
    path = rig.host.plug((254, 0), "dm-0")

    async def session() -> None:
        rig.watch.register((254, 0), rig.removed.append)
        rig.host.plug((254, 0), "dm-0", size=16)
        rig.monitor.push(FakeDevice("change", (254, 0), path))
        await rig.settle()
        assert rig.removed == []
        rig.host.plug((254, 0), "dm-0", size=0)
        rig.monitor.push(FakeDevice("change", (254, 0), path))
        await rig.settle()

    rig.run(session)
    assert rig.removed == [(254, 0)]


def test_late_event_about_an_earlier_disk_of_the_same_number_is_no_loss(rig: Rig) -> None:
    path = rig.host.plug(DISK, "sda", sequence="2")

    async def session() -> None:
        rig.watch.register(DISK, rig.removed.append)
        rig.monitor.push(FakeDevice("remove", DISK, path))
        await rig.settle()

    rig.run(session)
    assert rig.removed == []


def test_disk_that_was_exchanged_unseen_is_a_loss(rig: Rig) -> None:
    path = rig.host.plug(DISK, "sda", sequence="2")

    async def session() -> None:
        rig.watch.register(DISK, rig.removed.append)
        rig.host.plug(DISK, "sda", sequence="3")
        rig.monitor.push(FakeDevice("add", DISK, path))
        await rig.settle()

    rig.run(session)
    assert rig.removed == [DISK]


def test_disk_that_is_gone_already_is_reported_but_not_from_within_register(rig: Rig) -> None:
    async def session() -> None:
        rig.watch.register(DISK, rig.removed.append)
        assert rig.removed == []
        await rig.settle()

    rig.run(session)
    assert rig.removed == [DISK]


def test_disk_that_went_before_the_start_is_reported(rig: Rig) -> None:
    rig.host.plug(DISK, "sda")
    rig.watch.register(DISK, rig.removed.append)
    rig.host.unplug(DISK)
    rig.run(rig.settle)
    assert rig.removed == [DISK]


def test_closed_handle_is_silent(rig: Rig) -> None:
    path = rig.host.plug(DISK, "sda")

    async def session() -> None:
        handle = rig.watch.register(DISK, rig.removed.append)
        handle.close()
        handle.close()
        rig.host.unplug(DISK)
        rig.monitor.push(FakeDevice("remove", DISK, path))
        await rig.settle()

    rig.run(session)
    assert rig.removed == []


def test_without_sysfs_nothing_counts_as_gone(rig: Rig) -> None:
    rig.host.plug(DISK, "sda")

    async def session() -> None:
        rig.watch.register(DISK, rig.removed.append)
        rig.host.unplug(DISK)
        rig.host.sysfs.rmdir()
        rig.monitor.push(FakeDevice("remove", DISK, "/sys/sda"))
        await rig.settle()

    rig.run(session)
    assert rig.removed == []


@pytest.mark.parametrize("action", ["add", "change"])
def test_device_that_appears_is_offered_with_all_its_names(rig: Rig, action: str) -> None:
    path = rig.host.plug(DISK, "sda")

    async def session() -> None:
        rig.monitor.push(FakeDevice(action, DISK, path, "/dev/sda", ["/dev/disk/by-id/x"]))
        await rig.settle()

    rig.run(session)
    assert rig.appeared == [frozenset({"/dev/sda", "/dev/disk/by-id/x"})]


def test_devices_that_are_there_at_the_start_are_offered(rig: Rig) -> None:
    path = rig.host.plug(DISK, "sda")
    rig.present.append(FakeDevice("", DISK, path, "/dev/sda"))

    async def session() -> None:
        watch = rig.watch
        watch.start(asyncio.get_running_loop())
        await rig.settle()
        watch.close()

    asyncio.run(session())
    assert rig.appeared == [frozenset({"/dev/sda"})]


@pytest.mark.parametrize("known_from", ["the list", "an event"])
def test_device_that_only_changed_did_not_appear(rig: Rig, known_from: str) -> None:
    path = rig.host.plug(DISK, "sda")
    device = FakeDevice("change", DISK, path, "/dev/sda", ["/dev/disk/by-id/x"])
    if known_from == "the list":
        rig.present.append(device)

    async def session() -> None:
        if known_from == "an event":
            rig.monitor.push(device)
            await rig.settle()
            assert len(rig.appeared) == 1
            rig.appeared.clear()
        rig.host.plug(DISK, "sda", size=16)
        rig.monitor.push(device, FakeDevice("change", DISK, path, "/dev/sda"))
        await rig.settle()

    rig.run(session)
    assert rig.appeared == []


@pytest.mark.parametrize("way", ["removed", "detached", "exchanged", "named", "unseen"])
def test_device_that_went_and_came_or_got_a_name_appeared(rig: Rig, way: str) -> None:
    path = rig.host.plug(DISK, "sda")
    device = FakeDevice("change", DISK, path, "/dev/sda")
    rig.present.append(device)

    async def session() -> None:
        if way == "removed":
            rig.host.unplug(DISK)
            rig.monitor.push(FakeDevice("remove", DISK, path, "/dev/sda"))
        elif way == "detached":
            rig.host.plug(DISK, "sda", size=0)
            rig.monitor.push(device)
        elif way == "unseen":
            rig.host.unplug(DISK)
            rig.present.clear()
            rig.monitor.push(OSError(errno.ENOBUFS, "overrun"))
        elif way == "named":
            device.device_links.append("/dev/disk/by-id/new")
        await rig.settle()
        assert rig.appeared == []
        rig.host.plug(DISK, "sda", sequence="2" if way == "exchanged" else "1")
        rig.monitor.push(device)
        await rig.settle()

    rig.run(session)
    assert len(rig.appeared) == 1


def test_device_without_a_medium_or_that_goes_is_not_offered(rig: Rig) -> None:
    path = rig.host.plug(DISK, "sr0", size=0)

    async def session() -> None:
        rig.monitor.push(FakeDevice("change", DISK, path, "/dev/sr0"))
        rig.monitor.push(FakeDevice("add", (8, 16), "/sys/gone", "/dev/sdb"))
        await rig.settle()
        rig.host.plug(DISK, "sr0")
        rig.monitor.push(FakeDevice("remove", DISK, path, "/dev/sr0"))
        await rig.settle()

    rig.run(session)
    assert rig.appeared == []


def test_channel_that_does_not_tell_names_offers_nothing(rig: Rig, tmp_path: Path) -> None:
    path = rig.host.plug(DISK, "sda")
    watch = DeviceWatch(
        sysfs=rig.host.sysfs,
        open_channels=lambda: [Channel(rig.monitor, tells_names=False)],
        list_devices=list,
    )
    watch.on_appeared = rig.appeared.append
    rig.watch = watch

    async def session() -> None:
        watch.register(DISK, rig.removed.append)
        rig.monitor.push(FakeDevice("add", DISK, path, "/dev/sda"))
        await rig.settle()
        rig.host.unplug(DISK)
        rig.monitor.push(FakeDevice("remove", DISK, path, "/dev/sda"))
        await rig.settle()

    rig.run(session)
    assert (rig.appeared, rig.removed) == ([], [DISK])


# --- what goes wrong ------------------------------------------------------------------------


def test_overrun_looks_at_everything_after_the_channel_is_empty(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.host.plug(DISK, "sda")
    rig.host.plug((8, 16), "sdb")
    path = rig.host.plug((8, 32), "sdc")
    looked: list[int] = []
    look_at_all = rig.watch._look_at_all

    def look() -> None:
        looked.append(len(rig.monitor.pending))
        look_at_all()

    async def session() -> None:
        monkeypatch.setattr(rig.watch, "_look_at_all", look)
        new = rig.host.plug((8, 48), "sdd")
        rig.present.append(FakeDevice("", (8, 48), new, "/dev/returned"))
        for number in (DISK, (8, 16), (8, 32)):
            rig.watch.register(number, rig.removed.append)
        rig.host.unplug(DISK)
        rig.host.unplug((8, 16))
        rig.present.append(FakeDevice("", DISK, "/sys/sda", "/dev/lost"))
        rig.monitor.push(OSError(errno.ENOBUFS, "overrun"), FakeDevice("change", (8, 32), path))
        await rig.settle()

    rig.run(session)
    assert looked == [0]  # once, and when nothing was left to read
    assert sorted(rig.removed) == [DISK, (8, 16)]
    assert frozenset({"/dev/returned"}) in rig.appeared
    assert frozenset({"/dev/lost"}) not in rig.appeared


def test_overrun_with_more_events_than_one_turn_takes_is_healed(rig: Rig) -> None:
    rig.host.plug(DISK, "sda")
    other = FakeDevice("change", (9, 9), "/sys/other")

    async def session() -> None:
        rig.watch.register(DISK, rig.removed.append)
        await rig.settle()
        rig.host.unplug(DISK)
        rig.monitor.push(OSError("POLLERR"), *[other] * (EVENTS_AT_ONCE - 1))
        await rig.settle()

    rig.run(session)
    assert rig.removed == [DISK]


def test_many_events_leave_the_loop_its_turn(rig: Rig) -> None:
    other = FakeDevice("change", (9, 9), "/sys/other")

    async def session() -> None:
        rig.monitor.push(*[other] * 3 * EVENTS_AT_ONCE)
        left = []
        for _ in range(5):
            await asyncio.sleep(0)
            left.append(len(rig.monitor.pending))
        assert {EVENTS_AT_ONCE, 2 * EVENTS_AT_ONCE} < set(left)

    rig.run(session)


def test_broken_channel_is_given_up_and_the_last_look_is_taken(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.host.plug(DISK, "sda")

    async def session() -> None:
        rig.watch.register(DISK, rig.removed.append)
        await rig.settle()
        rig.host.unplug(DISK)
        rig.monitor.push(*[OSError(errno.EBADF, "closed")] * (FAILURES_MAX + 5))
        await rig.settle()
        assert not rig.watch.is_watching

    rig.run(session)
    assert rig.monitor.polls < FAILURES_MAX + 5
    assert rig.removed == [DISK]
    assert "given up" in caplog.text


def test_failures_with_events_in_between_do_not_add_up(rig: Rig) -> None:
    other = FakeDevice("change", (9, 9), "/sys/other")

    async def session() -> None:
        for _ in range(FAILURES_MAX + 1):
            rig.monitor.push(OSError(errno.ENOBUFS, "overrun"), other)
        await rig.settle()
        assert rig.watch.is_watching

    rig.run(session)


def test_event_that_cannot_be_understood_and_one_without_a_number_are_passed_over(
    rig: Rig,
) -> None:
    path = rig.host.plug(DISK, "sda")
    broken = FakeDevice("add", DISK, path)
    broken.device_links = None  # type: ignore[assignment]
    assert parse_event(FakeDevice("add", (0, 0), "/sys/none")) is None

    async def session() -> None:
        rig.monitor.push(broken, FakeDevice("add", (0, 0), "/sys/none"))
        rig.monitor.push(FakeDevice("add", DISK, path, "/dev/sda"))
        await rig.settle()

    rig.run(session)
    assert rig.appeared == [frozenset({"/dev/sda"})]


def test_callback_that_raises_stops_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    path = rig.host.plug(DISK, "sda")
    second = rig.host.plug((8, 16), "sdb")

    def explode(_argument: Any) -> None:
        raise RuntimeError("callback")

    async def session() -> None:
        rig.watch.on_appeared = explode
        rig.watch.register(DISK, explode)
        rig.watch.register((8, 16), rig.removed.append)
        rig.host.unplug(DISK)
        rig.host.unplug((8, 16))
        rig.monitor.push(FakeDevice("remove", DISK, path))
        rig.monitor.push(FakeDevice("remove", (8, 16), second))
        await rig.settle()

    rig.run(session)
    assert rig.removed == [(8, 16)]
    assert "RuntimeError: callback" in caplog.text


def test_after_close_nobody_is_called(rig: Rig) -> None:
    path = rig.host.plug(DISK, "sda")
    rig.present.append(FakeDevice("", DISK, path, "/dev/sda"))

    async def session() -> None:
        rig.watch.register(DISK, rig.removed.append)
        rig.host.unplug(DISK)
        rig.monitor.push(FakeDevice("remove", DISK, path, "/dev/sda"))
        rig.watch.close()
        await rig.settle()

    rig.run(session)
    assert (rig.removed, rig.appeared) == ([], [])


def test_close_from_within_a_callback_is_the_last_that_is_heard(rig: Rig) -> None:
    for number, name in ((DISK, "sda"), ((8, 16), "sdb")):
        rig.present.append(FakeDevice("", number, rig.host.plug(number, name), f"/dev/{name}"))

    def take_and_close(names: frozenset[str]) -> None:
        rig.appeared.append(names)
        rig.watch.close()

    async def session() -> None:
        rig.watch.on_appeared = take_and_close
        rig.watch.start(asyncio.get_running_loop())
        await rig.settle()

    asyncio.run(session())
    assert len(rig.appeared) == 1


def test_device_that_cannot_be_understood_does_not_hide_the_others(rig: Rig) -> None:
    broken = FakeDevice("", (8, 16), "/sys/sdb")
    broken.device_links = None  # type: ignore[assignment]
    rig.present += [broken, FakeDevice("", DISK, rig.host.plug(DISK, "sda"), "/dev/sda")]

    async def session() -> None:
        rig.watch.start(asyncio.get_running_loop())
        await rig.settle()
        rig.watch.close()

    asyncio.run(session())
    assert rig.appeared == [frozenset({"/dev/sda"})]


@pytest.mark.parametrize("error", [ImportError("no library named udev"), OSError("no netlink")])
def test_without_udev_the_watch_is_idle_and_says_so(
    rig: Rig, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def missing() -> list[Channel]:
        raise error

    rig.host.plug(DISK, "sda")
    rig.watch = DeviceWatch(sysfs=rig.host.sysfs, open_channels=missing, list_devices=missing)

    async def session() -> None:
        assert not rig.watch.is_watching
        rig.watch.register(DISK, rig.removed.append).close()
        await rig.settle()

    rig.run(session)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(error) in caplog.text


# --- the real kernel ------------------------------------------------------------------------


def number_of(device: str) -> tuple[int, int]:
    rdev = os.stat(device).st_rdev
    return os.major(rdev), os.minor(rdev)


def detach(device: str) -> None:
    subprocess.run(["losetup", "--detach", device], check=True)


def test_real_loop_device_is_seen_to_come_and_to_go(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1024 * 1024))
    watch = DeviceWatch()

    async def main() -> None:
        names: set[str] = set()
        came, gone = asyncio.Event(), asyncio.Event()

        def appeared(found: frozenset[str]) -> None:
            names.update(found)
            came.set()

        watch.start(asyncio.get_running_loop())
        assert watch.is_watching
        await asyncio.sleep(0)  # the look that the start takes
        watch.on_appeared = appeared
        with loop_device(image) as device:
            while device not in names:
                await asyncio.wait_for(came.wait(), 10)
                came.clear()
            watch.register(number_of(device), lambda _: gone.set())
            await asyncio.sleep(0)
            assert not gone.is_set()
        await asyncio.wait_for(gone.wait(), 10)
        watch.close()

    asyncio.run(main())


def test_real_overrun_is_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1024 * 1024))

    def open_small() -> list[Channel]:
        channels = open_channels()[:1]  # the kernel's
        source: Any = channels[0].source
        source.set_receive_buffer_size(1)  # the least there is: a few events
        return channels

    watch = DeviceWatch(open_channels=open_small)

    async def main() -> None:
        gone = asyncio.Event()
        watch.start(asyncio.get_running_loop())
        with loop_device(image) as device:
            watch.register(number_of(device), lambda _: gone.set())
            await asyncio.sleep(0)
            for _ in range(20):
                with loop_device(image):
                    pass
        await asyncio.wait_for(gone.wait(), 10)
        assert watch.is_watching
        watch.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert "events of block devices were lost" in caplog.text
