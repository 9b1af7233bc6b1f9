"""Carried disks that arrive and leave: what they hold is offered to the volumes that it is of.

A disk is looked at where somebody mounted it, or, if a volume's definition says so, is mounted by
us; see ``shipped_mount``. A volume whose snapshot's disk was pulled out gets it back by itself when
it returns, wherever it is mounted then.

For the event loop's thread; all that touches a disk runs in a thread of its own.
"""

from __future__ import annotations

import logging
import os
from asyncio import Task, get_running_loop, sleep, wait_for
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ..errors import RestoreError
from ..log_line import log_line
from ..sources.io_thread import IoThreads
from ..sources.snapshot_image import SnapshotImage
from .device_event import DeviceNumber, read_presence
from .device_watch import DeviceWatch, WatchHandle
from .mount_table import Mount, MountWatch, read_mounts
from .shipped_image import FoundImage
from .shipped_mount import unmount
from .shipped_offer import offers_for
from .shipped_survey import Places, Wishes, take_survey
from .volume_engine import VolumeEngine

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Between two looks: a host of containers may mount and unmount all the time."""

RETRY_SECONDS = 1.0
"""When to look again at a volume that is busy with a verb of the admin's."""

CLOSE_SECONDS = 10.0
"""How long the end waits for a disk that hangs."""


class Verbs(Protocol):
    """What is done with what was found; each may raise a RestoreError."""

    async def attach_and_merge(self, name: str, path: str) -> None:
        """Attach the exported snapshot at *path* and start the merge."""

    async def return_snapshot(self, name: str, path: str) -> None:
        """Go on with the attached snapshot, which is at *path* now."""


class ShippedDisks:
    """The carried disks of this host. *engines* gives the open volumes."""

    def __init__(
        self,
        engines: Callable[[], Iterable[VolumeEngine]],
        verbs: Verbs,
        watch: DeviceWatch,
        places: Places | None = None,
    ) -> None:
        self._engines = engines
        self._verbs = verbs
        self._watch = watch
        self._places = places or Places()
        self._threads = IoThreads("shipped", 1)
        self._found: dict[Mount, tuple[FoundImage, ...]] = {}
        self._devices: dict[DeviceNumber, str] = {}
        self._mounted_for: dict[DeviceNumber, frozenset[str]] = {}
        self._handles: dict[DeviceNumber, WatchHandle] = {}
        self._done_with: set[tuple[str, str]] = set()
        """(volume, image) that were detached or refused, and are not taken again by themselves."""
        self._mount_watch: MountWatch | None = None
        self._task: Task[None] | None = None
        self._is_due = False
        self._is_closed = False

    def start(self) -> None:
        """Look now, and whenever something is mounted."""
        try:
            self._mount_watch = MountWatch(self.look, self._places.mount_table)
            self._mount_watch.start(get_running_loop())
        except OSError as error:
            sentence = f"mounts are not watched, so carried disks are not offered: {error}"
            log.warning(log_line(sentence, operation="shipped-disk"))
        self.look()

    # --- events ---------------------------------------------------------------------------

    def appeared(self, names: frozenset[str]) -> None:
        """A block device is there; *names* are its device file and the links to it."""
        device = min(names, key=len, default="")  # the kernel's own name; links are longer
        with suppress(OSError):
            status = os.stat(device)
            number = (os.major(status.st_rdev), os.minor(status.st_rdev))
            self._devices[number] = device
            self._mounted_for.pop(number, None)
            self.look()

    def look(self) -> None:
        """Look at what is there, soon; several calls are one look."""
        self._is_due = True
        if self._task is None and not self._is_closed:
            self._task = get_running_loop().create_task(self._look_while_due())

    async def detached(self, name: str, source: str, identity: str) -> None:
        """The volume *name* needs the snapshot *source* no more: let go of its disk."""
        self._done_with.add((name, identity))
        for mount, images in list(self._found.items()):
            is_there = f"{source}/".startswith(f"{mount.point}/")
            if is_there and self._places.is_ours(mount) and not self._is_needed(images):
                await self._threads.submit(unmount, Path(mount.point))

    def _is_needed(self, images: Iterable[FoundImage]) -> bool:
        """Return whether a volume that lets disks be mounted is not done with one of *images*."""
        return any(
            image.backup_identity == _backup_of(engine)
            and (engine.name, image.identity) not in self._done_with
            for engine in self._engines()
            if engine.definition.shipped.mount
            for image in images
        )

    def _removed(self, number: DeviceNumber) -> None:
        self._handles.pop(number, None)
        for engine in self._engines():
            snapshot = engine.snapshot
            if isinstance(snapshot, SnapshotImage) and snapshot.device_number == number:
                snapshot.disk_removed()
                engine.events.add("snapshot", "The disk with the snapshot was pulled out.")
                sentence = "the disk with the snapshot was pulled out"
                log.warning(log_line(sentence, volume=engine.name, operation="shipped-disk"))
                engine.snapshot_changed(False)
        self.look()

    # --- looking --------------------------------------------------------------------------

    async def _look_while_due(self) -> None:
        try:
            while self._is_due and not self._is_closed:
                self._is_due = False
                await self._look()
                if self._is_due:
                    await sleep(PAUSE_SECONDS)
        except Exception:
            log.exception("carried disks could not be looked at")
        finally:
            self._task = None

    async def _look(self) -> None:
        wishes = self._wishes()
        for number in wishes.devices:
            self._mounted_for[number] = self._mounted_for.get(number, frozenset()) | wishes.wanted
        self._found = await self._threads.submit(take_survey, self._places, wishes)
        self._watch_disks()
        for engine in list(self._engines()):
            self._offer(engine)
            await self._take(engine)

    def _wishes(self) -> Wishes:
        """Return what is to be mounted: each device once for each volume that wants it."""
        engines = list(self._engines())
        sysfs = self._places.sysfs
        for number in [n for n in self._devices if read_presence(sysfs, n) is None]:
            del self._devices[number]
        wanted = frozenset(_backup_of(e) for e in engines if e.definition.shipped.mount)
        devices = {
            number: device
            for number, device in self._devices.items()
            if wanted - self._mounted_for.get(number, frozenset())
        }
        primaries = frozenset(engine.guard.identity for engine in engines)
        return Wishes(devices, wanted, primaries, self._found)

    def _watch_disks(self) -> None:
        """Have their removal told: of disks with snapshots, and of those that are attached."""
        numbers = {mount.number for mount, images in self._found.items() if images}
        for engine in self._engines():
            if isinstance(engine.snapshot, SnapshotImage) and engine.snapshot.is_reachable:
                numbers.add(engine.snapshot.device_number)
        for number in self._handles.keys() - numbers:
            self._handles.pop(number).close()
        for number in numbers - self._handles.keys():
            if read_presence(self._places.sysfs, number) is not None:
                self._handles[number] = self._watch.register(number, self._removed)

    # --- what is done with it ---------------------------------------------------------------

    def _images(self) -> list[FoundImage]:
        return [image for images in self._found.values() for image in images]

    def _offer(self, engine: VolumeEngine) -> None:
        before = {offer.image for offer in engine.offers}
        engine.offers = offers_for(
            self._images(),
            backup_identity=_backup_of(engine),
            size=engine.volume.state.geometry.size,
            since=_since(engine),
        )
        for offer in engine.offers:
            if offer.image not in before:
                text = f"A snapshot of {offer.taken} has arrived: {offer.image.path}"
                engine.events.add("snapshot", f"{text}.")
                log.info(log_line(text, volume=engine.name, operation="shipped-disk"))

    async def _take(self, engine: VolumeEngine) -> None:
        """Use what may be used without being asked."""
        if engine.is_preparing:
            get_running_loop().call_later(RETRY_SECONDS, self.look)
            return
        record = engine.facts.get("snapshot")
        chosen = None
        if record is None:
            chosen = self._choose(engine)
            verb = self._verbs.attach_and_merge
        elif engine.snapshot is None or not engine.snapshot.is_reachable:
            chosen = next((i for i in self._images() if i.identity == record["identity"]), None)
            verb = self._verbs.return_snapshot
        if chosen is None:
            return
        try:
            await verb(engine.name, chosen.path)
        except RestoreError as error:
            self._done_with.add((engine.name, chosen.identity))
            sentence = f"{chosen.path} is not used: {error}"
            log.warning(log_line(sentence, volume=engine.name, operation="attach-snapshot"))
        self._watch_disks()

    def _choose(self, engine: VolumeEngine) -> FoundImage | None:
        """Return the snapshot to attach by itself: nothing whose age is unknown."""
        needs = engine.volume.state.overwrite_map.lost_count > 0 and _since(engine) is not None
        if not needs or not engine.definition.shipped.auto_attach:
            return None
        usable = (offer.image for offer in engine.offers if not offer.problem)
        return next(
            (i for i in usable if (engine.name, i.identity) not in self._done_with),
            None,
        )

    # --- the end ----------------------------------------------------------------------------

    async def close(self) -> None:
        """Watch no longer and unmount what we mounted. Never raises."""
        self._is_closed = True
        if self._mount_watch is not None:
            self._mount_watch.close()
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()
        with suppress(TimeoutError, OSError):
            if self._task is not None:
                await wait_for(self._task, CLOSE_SECONDS)
            await wait_for(self._threads.submit(self._unmount_all), CLOSE_SECONDS)
            await wait_for(self._threads.close(), CLOSE_SECONDS)

    def _unmount_all(self) -> None:
        for mount in filter(self._places.is_ours, read_mounts(self._places.mount_table)):
            unmount(Path(mount.point))


def _backup_of(engine: VolumeEngine) -> str:
    return str(engine.facts["backup"]["identity"])


def _since(engine: VolumeEngine) -> datetime | None:
    text = engine.facts.get("snapshots_since")
    return datetime.fromisoformat(text) if text else None
