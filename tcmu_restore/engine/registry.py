"""Every volume of this host: defined, open, and the verbs that the service offers on them."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import VolumeInUseError, VolumeNotOpenError, WrongStateError
from ..options import DEFINITION_DIR, STATE_DIR
from ..remote.record import describe_record
from . import job_verbs, loss_verbs, retirement, snapshot_verbs
from .closed_volumes import ClosedVolumes
from .definition import Definition, PeerDefinition, check_name, parse_mirror
from .device_watch import DeviceWatch
from .link_settings import parse_link
from .map_summary import summarize
from .opening import open_engine
from .resize import resize
from .shipped_disks import ShippedDisks
from .shipped_survey import Places
from .snapshot_extents import check_extents
from .status import describe
from .volume_engine import VolumeEngine


class VolumeRegistry:
    """All volumes. For the event loop's thread only, but for ``check``."""

    def __init__(
        self,
        definition_dir: Path = DEFINITION_DIR,
        state_dir: Path = STATE_DIR,
        *,
        places: Places | None = None,
    ) -> None:
        self.definition_dir = definition_dir
        self.state_dir = state_dir
        self.on_change: Callable[[str, str], None] = lambda name, state: None
        self._closed = ClosedVolumes(definition_dir, state_dir)
        self._open: dict[str, VolumeEngine] = {}

        self._watch: DeviceWatch | None = None
        self._shipped: ShippedDisks | None = None
        self._places = places

    def _changed(self, name: str, state: str) -> None:
        self.on_change(name, state)

    def _watching(self) -> DeviceWatch:
        """Return the watch over this host's disks; it begins with the first volume."""
        if self._watch is None:
            self._watch = DeviceWatch()
            self._watch.on_appeared = self._disk_appeared
            self._shipped = ShippedDisks(self._open.values, self, self._watch, self._places)
            self._watch.start(get_running_loop())
            self._shipped.start()
        return self._watch

    def _disk_appeared(self, names: frozenset[str]) -> None:
        for engine in self._open.values():
            engine.guard.appeared(names, engine.definition.primary)
        if self._shipped is not None:
            self._shipped.appeared(names)

    # --- definitions and state files: see ``closed_volumes`` ------------------------------

    def check(self, name: str) -> None:
        """Raise a RestoreError if *name* cannot be opened, as far as this host alone can tell."""
        self._closed.check(name)

    def list_volumes(self) -> list[str]:
        """Return the names of all defined volumes, sorted."""
        return self._closed.list_names()

    async def create_volume(
        self,
        name: str,
        *,
        primary: str,
        backup: str,
        credentials: str | None = None,
        mirror: str = "sync",
        link: dict[str, Any] | None = None,
    ) -> int:
        """Define a volume; return its size in bytes. See ``ClosedVolumes.create``."""
        peer = PeerDefinition(backup, credentials, parse_link(link or {}, bulk=False))
        return await self._closed.create(name, Definition(primary, peer, parse_mirror(mirror)))

    async def delete_volume(self, name: str) -> None:
        """Forget a volume that is not open: its definition and its state, not the data."""
        self.check(name)
        self._check_closed(name)
        await self._closed.delete(name)

    async def rebuild_state(self, name: str) -> str:
        """Make the state of *name* anew, with everything lost. See ``ClosedVolumes.rebuild``."""
        return await self._closed.rebuild(name, check_closed=self._check_closed)

    async def link_down(self, name: str) -> None:
        """Take the bulk link of *name* down, also of a volume that is not open.

        Raises:
            WrongStateError: the merge runs, or no command has brought it up. LinkCommandError: it
                counts as up.
        """
        if name in self._open:
            await self._open[name].link.down()
        else:
            await self._closed.take_link_down(name)

    def _check_closed(self, name: str) -> None:
        if name in self._open:
            raise VolumeInUseError(name)

    # --- open volumes -------------------------------------------------------------------

    async def open_volume(self, name: str, size: int, block_size: int) -> VolumeEngine:
        """Open *name* for LIO. Never waits for a peer. See ``opening.open_engine``."""
        self._check_closed(name)
        engine = await open_engine(
            name,
            self.definition_dir,
            self.state_dir,
            size=size,
            block_size=block_size,
            on_change=self._changed,
            watch=self._watching(),
        )
        self._open[name] = engine
        await snapshot_verbs.take_up(engine)
        self._look_for_disks()
        record = engine.facts.get("snapshot") or {}
        engine.link.take_up(parse_link(record.get("link", {}), bulk=True))
        return engine

    async def close_volume(self, name: str) -> None:
        """Close *name*; unknown names are passed over. Never raises."""
        engine = self._open.pop(name, None)
        if engine is not None:
            await engine.close()
            self.on_change(name, "closed")

    async def close(self) -> None:
        """Close everything."""
        for name in list(self._open):
            await self.close_volume(name)
        if self._shipped is not None:
            await self._shipped.close()
            self._shipped = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def engine(self, name: str) -> VolumeEngine:
        """Return the open volume *name*. Raises UnknownVolumeError or VolumeNotOpenError."""
        engine = self._open.get(name)
        if engine is None:
            self.check(name)
            raise VolumeNotOpenError(name)
        return engine

    def status(self, name: str) -> dict[str, Any]:
        """Return the status document of *name*; of a volume that is not open only its state."""
        check_name(name)
        restore = {"restore_from": describe_record(self.state_dir, name)}
        found = self._open.get(name)
        return (self._closed.status(name) if found is None else describe(found)) | restore

    async def map(self, name: str, cells: int) -> dict[str, Any]:
        """Return the map document of an open volume. See ``map_summary.summarize``."""
        state = self.engine(name).volume.state
        geometry = state.geometry
        sizes = {"volume": name, "size": geometry.size, "region_size": geometry.region_size}
        found = await summarize(state.overwrite_map.sets, geometry, cells)
        return sizes | found | {"accesses": state.heat.by_cell(len(found["cells"]))}

    # --- loss -----------------------------------------------------------------------------

    async def replace_primary(self, name: str, primary: str) -> None:
        """Put a disk under the running volume. See ``loss_verbs.replace_primary``."""
        await loss_verbs.replace_primary(self.engine(name), self.definition_dir, primary)

    async def declare_lost(self, name: str, *, offset: int, length: int | None, force: bool) -> int:
        """Count bytes of the primary as lost. See ``loss_verbs.declare_lost``."""
        return await loss_verbs.declare_lost(self.engine(name), offset, length, force=force)

    async def accept_outdated(self, name: str, *, offset: int, length: int | None) -> int:
        """Let the backup's older bytes count. See ``loss_verbs.accept_outdated``."""
        return await loss_verbs.accept_outdated(self.engine(name), offset, length)

    async def prepare_snapshot(self, name: str) -> None:
        """To be called before a snapshot is taken. See ``loss_verbs.prepare_snapshot``."""
        await loss_verbs.prepare_snapshot(self.engine(name))

    async def resync_pause(self, name: str) -> None:
        """Send no stale region to the backup until ``resync_resume``, also after a restart."""
        await job_verbs.resync(self.engine(name), "pause")

    async def resync_resume(self, name: str) -> None:
        """Go on with a paused resync."""
        await job_verbs.resync(self.engine(name), "resume")

    async def verify(self, name: str, verb: str, *, repair: str = "none") -> None:
        """Compare primary and backup: start, pause, resume, cancel. See ``job_verbs.verify``."""
        await job_verbs.verify(self.engine(name), verb, repair)

    async def resize(self, name: str) -> int:
        """Let *name* grow to its backup's size. See ``resize.resize``."""
        return await resize(self.engine(name))

    async def protect(self, name: str, *, mirror: str) -> None:
        """Change the mirror policy of *name*. See ``retirement.protect``."""
        await retirement.protect(self.engine(name), self.definition_dir, mirror)

    async def retire(self, name: str, *, forget: bool) -> None:
        """Put *name* aside after a handover. See ``retirement.retire``."""
        self._check_closed(name)
        retirement.retire(name, self.definition_dir, self.state_dir, forget=forget)

    async def take_back(self, name: str) -> None:
        """Let *name* be opened again after a handover. See ``retirement.take_back``."""
        await retirement.take_back(name, self.definition_dir, self.state_dir)

    # --- snapshot and merge ---------------------------------------------------------------

    async def attach_snapshot(
        self,
        name: str,
        snapshot: str,
        *,
        credentials: str | None = None,
        extents: Sequence[tuple[int, int]] | None = None,
        link: dict[str, Any] | None = None,
    ) -> None:
        """Attach a static snapshot of the backup: an iSCSI URL, or the path of a device or file,
        or of a directory that ``snapshot-export`` made.

        *extents*: the (offset, length) in bytes that it covers; None: everything. *link*: settings
        of the bulk link, which go before the definition's ``[snapshot_link]``.

        Raises:
            OutOfRangeError, BadSettingError: *extents* or *link* cannot be used.
            LinkCommandError: the link did not come up; nothing is attached.
            SizeMismatchError, BlockSizeMismatchError, SnapshotIsBackupError,
            IdentityMismatchError: see MRG-2. BadImageError: the directory cannot be used.
            WrongStateError: one is attached. SourceError: it cannot be reached.
        """
        engine = self.engine(name)
        if engine.snapshot is not None:
            raise WrongStateError(name, "attach a snapshot", "one is attached already")
        selected = check_extents(engine.volume.state.geometry, extents)
        settings = snapshot_verbs.link_of(engine, snapshot, link or {})
        parsed = parse_link(settings, bulk=True)
        record = {"source": snapshot, "credentials": credentials, "extents": selected}
        with engine.alone("attach a snapshot"):
            await engine.link.use(parsed)
            try:
                await snapshot_verbs.attach(engine, record | {"link": settings})
            except BaseException:
                await engine.link.give_up()
                raise
        self._look_for_disks()

    async def detach_snapshot(self, name: str) -> None:
        """Forget the attached snapshot. A disk that we mounted for it may be pulled out then."""
        engine = self.engine(name)
        record = engine.facts.get("snapshot") or {}
        with engine.alone("detach the snapshot"):
            await engine.drop_snapshot()
        if self._shipped is not None:
            await self._shipped.detached(name, record["source"], record["identity"])

    async def attach_and_merge(self, name: str, path: str) -> None:
        """Use a snapshot that was carried here, by itself. Raises as ``attach_snapshot``."""
        await self.attach_snapshot(name, path)
        await self.merge_start(name)

    async def return_snapshot(self, name: str, path: str) -> None:
        """Go on with the attached exported snapshot, which is at *path* now (MRG-2).

        Raises:
            BadImageError, IdentityMismatchError: it is not used. StateWriteError.
            WrongStateError: another command is under way.
        """
        engine = self.engine(name)
        with engine.alone("use the snapshot again"):
            record = engine.facts["snapshot"] | {"source": path}
            await snapshot_verbs.use_recorded(engine, record)
            await engine.db.commit_facts({"snapshot": record})
            engine.facts["snapshot"] = record
        engine.events.add("snapshot", f"The snapshot is there again: {path}.")
        engine.snapshot_changed(True)

    def _look_for_disks(self) -> None:
        if self._shipped is not None:
            self._shipped.look()

    async def merge_start(self, name: str) -> None:
        """Start the merge."""
        await job_verbs.merge(self.engine(name), "start")

    async def merge_pause(self, name: str) -> None:
        """Pause the merge; it stays paused over a restart."""
        await job_verbs.merge(self.engine(name), "pause")

    async def merge_resume(self, name: str) -> None:
        """Go on with a paused merge."""
        await job_verbs.merge(self.engine(name), "resume")

    async def merge_cancel(self, name: str) -> None:
        """Stop the merge; what is merged stays merged."""
        await job_verbs.merge(self.engine(name), "cancel")
