"""Every volume of this host: defined, open, and the verbs that the service offers on them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import (
    BlockSizeMismatchError,
    PrimaryTooSmallError,
    RestoreError,
    SizeMismatchError,
    SnapshotIsBackupError,
    VolumeExistsError,
    VolumeInUseError,
    VolumeNotOpenError,
    WrongStateError,
)
from ..options import DEFINITION_DIR, STATE_DIR, VolumeOptions
from ..sources.base import BlockSource, SourceGeometry
from ..sources.file import FileStore, check_unused
from ..sources.iscsi import IscsiStore
from ..sources.iscsi_url import parse_iscsi_url
from .definition import (
    Definition,
    PeerDefinition,
    check_name,
    definition_path,
    load_definition,
    save_definition,
)
from .merge_job import MergeState
from .opening import connect_peer, open_engine
from .state_db import StateDb
from .status import describe
from .volume_engine import VolumeEngine

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
"""How long a verb that needs a peer waits for it."""

SNAPSHOT_SESSIONS = 2
"""Bulk transfer over two TCP connections."""


class VolumeRegistry:
    """All volumes. For the event loop's thread only, but for ``check``."""

    def __init__(self, definition_dir: Path = DEFINITION_DIR, state_dir: Path = STATE_DIR) -> None:
        self.definition_dir = definition_dir
        self.state_dir = state_dir
        self.on_change: Callable[[str, str], None] = lambda name, state: None
        self._open: dict[str, VolumeEngine] = {}

    def _changed(self, name: str, state: str) -> None:
        self.on_change(name, state)

    # --- definitions --------------------------------------------------------------------

    def check(self, name: str) -> None:
        """Raise a RestoreError if *name* cannot be opened, as far as this host alone can tell."""
        load_definition(self.definition_dir, name)

    def list_volumes(self) -> list[str]:
        """Return the names of all defined volumes, sorted."""
        return sorted(path.stem for path in self.definition_dir.glob("*.toml"))

    async def create_volume(
        self,
        name: str,
        *,
        primary: str,
        backup: str,
        credentials: str | None = None,
        header_digest: bool = False,
    ) -> int:
        """Define a volume whose primary has lost everything; return its size in bytes.

        Raises:
            UserError: the input cannot be used. SourceError: the backup did not answer.
            Whatever it raises, nothing was changed.
        """
        check_name(name)
        state_path = self.state_dir / f"{name}.db"
        if definition_path(self.definition_dir, name).exists() or state_path.exists():
            raise VolumeExistsError(name)
        peer = PeerDefinition(backup, credentials, header_digest)
        parse_iscsi_url(backup)
        check_unused(primary)
        found = await _probe_backup(peer)
        facts = _facts(found, await _probe_primary(primary, found), VolumeOptions())
        save_definition(self.definition_dir, name, Definition(primary, peer))
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            StateDb.create(state_path, facts)
        except RestoreError:
            definition_path(self.definition_dir, name).unlink()
            raise
        log.info("volume %s: created, %d bytes", name, found.size)
        return found.size

    async def delete_volume(self, name: str) -> None:
        """Forget a volume that is not open: its definition and its state, not the data."""
        self.check(name)
        if name in self._open:
            raise VolumeInUseError(name)
        definition_path(self.definition_dir, name).unlink()
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                (self.state_dir / f"{name}.db{suffix}").unlink()

    # --- open volumes -------------------------------------------------------------------

    async def open_volume(self, name: str, size: int, block_size: int) -> VolumeEngine:
        """Open *name* for LIO. Never waits for a peer. See ``opening.open_engine``."""
        if name in self._open:
            raise VolumeInUseError(name)
        engine = await open_engine(
            name,
            self.definition_dir,
            self.state_dir,
            size=size,
            block_size=block_size,
            on_change=self._changed,
        )
        self._open[name] = engine
        await self._take_up(engine)
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

    def engine(self, name: str) -> VolumeEngine:
        """Return the open volume *name*. Raises UnknownVolumeError or VolumeNotOpenError."""
        engine = self._open.get(name)
        if engine is None:
            self.check(name)
            raise VolumeNotOpenError(name)
        return engine

    def status(self, name: str) -> dict[str, Any]:
        """Return the status document of *name*; of a volume that is not open only its state."""
        if name in self._open:
            return describe(self._open[name])
        self.check(name)
        facts = StateDb.peek(self.state_dir / f"{name}.db")
        return {
            "volume": name,
            "state": "closed",
            "advice": str(VolumeNotOpenError(name)),
            "size": facts.get("size"),
            "block_size": facts.get("block_size"),
        }

    # --- snapshot and merge ---------------------------------------------------------------

    async def attach_snapshot(
        self, name: str, snapshot: str, *, credentials: str | None = None
    ) -> None:
        """Attach a static snapshot of the backup: an iSCSI URL, or the path of a device or file.

        Raises:
            SizeMismatchError, BlockSizeMismatchError, SnapshotIsBackupError: see MRG-2.
            WrongStateError: one is attached. SourceError: it cannot be reached.
        """
        engine = self.engine(name)
        if engine.snapshot is not None:
            raise WrongStateError(name, "attach a snapshot", "one is attached already")
        record: dict[str, Any] = {"source": snapshot, "credentials": credentials}
        source = self._connect_snapshot(engine, record, None)
        try:
            if isinstance(source, IscsiStore):
                await source.wait_ready(CONNECT_SECONDS)
            _check_snapshot(engine, snapshot, source.geometry)
            found = source.geometry
            record |= {"size": found.size, "identity": found.identity}
            record["block_size"] = found.block_size
            await engine.set_snapshot(source, record)
        except BaseException:
            await source.close()
            raise

    async def detach_snapshot(self, name: str) -> None:
        """Forget the attached snapshot."""
        await self.engine(name).drop_snapshot()

    async def merge_start(self, name: str) -> None:
        """Start the merge."""
        await self.engine(name).merge_verb("start")

    async def merge_pause(self, name: str) -> None:
        """Pause the merge; it stays paused over a restart."""
        await self.engine(name).merge_verb("pause")

    async def merge_resume(self, name: str) -> None:
        """Go on with a paused merge."""
        await self.engine(name).merge_verb("resume")

    async def merge_cancel(self, name: str) -> None:
        """Stop the merge; what is merged stays merged."""
        await self.engine(name).merge_verb("cancel")

    def _connect_snapshot(
        self, engine: VolumeEngine, record: dict[str, Any], expected: SourceGeometry | None
    ) -> BlockSource:
        if "://" not in record["source"]:
            return FileStore.open(record["source"], read_only=True)
        peer = PeerDefinition(record["source"], record["credentials"])
        return connect_peer(
            peer,
            expected,
            engine.snapshot_changed,
            instance=f"{engine.name}/snapshot",
            sessions=SNAPSHOT_SESSIONS,
            read_only=True,
        )

    async def _take_up(self, engine: VolumeEngine) -> None:
        """After a restart: the snapshot that was attached, and the merge where it was (MRG-2)."""
        record = engine.facts.get("snapshot")
        if record is not None:
            expected = SourceGeometry(record["size"], record["block_size"], record["identity"])
            try:
                source = self._connect_snapshot(engine, record, expected)
                if isinstance(source, FileStore):
                    _check_snapshot(engine, record["source"], source.geometry, expected)
            except RestoreError as error:
                log.warning("volume %s: the snapshot is not used: %s", engine.name, error)
                return
            engine.performer.snapshot = source
        was = engine.facts.get("merge")
        if was == MergeState.RUNNING.value:
            engine.merge.resume()
        elif was == MergeState.PAUSED.value:
            engine.merge.pause()


async def _probe_backup(peer: PeerDefinition) -> SourceGeometry:
    store = connect_peer(peer, None)
    try:
        await store.wait_ready(CONNECT_SECONDS)
        return store.geometry
    finally:
        await store.close()


async def _probe_primary(primary: str, backup: SourceGeometry) -> SourceGeometry:
    store = FileStore.open(primary)
    try:
        found = store.geometry
    finally:
        await store.close()
    if found.size < backup.size:
        raise PrimaryTooSmallError(primary, found.size, backup.size)
    if found.block_size > backup.block_size:
        raise BlockSizeMismatchError(f"The disk {primary}", found.block_size, backup.block_size)
    return found


def _facts(
    backup: SourceGeometry, primary: SourceGeometry, options: VolumeOptions
) -> dict[str, Any]:
    return {
        "size": backup.size,
        "block_size": backup.block_size,
        "region_size": options.region_size,
        "zone_size": options.zone_size,
        "backup": {
            "size": backup.size,
            "block_size": backup.block_size,
            "identity": backup.identity,
        },
        "primary_identity": primary.identity,
        "snapshot": None,
        "merge": MergeState.IDLE.value,
    }


def _check_snapshot(
    engine: VolumeEngine,
    source: str,
    found: SourceGeometry,
    expected: SourceGeometry | None = None,
) -> None:
    """Raise unless *found* can be a snapshot of the volume's backup (MRG-2)."""
    geometry = engine.volume.state.geometry
    if found.identity == engine.facts["backup"]["identity"]:
        raise SnapshotIsBackupError(source)
    if found.size != geometry.size:
        raise SizeMismatchError(f"The snapshot {source}", found.size, geometry.size)
    if found.block_size > geometry.block_size:
        raise BlockSizeMismatchError(
            f"The snapshot {source}", found.block_size, geometry.block_size
        )
    if expected is not None and found != expected:
        raise SizeMismatchError(f"The snapshot {source}", found.size, expected.size)
