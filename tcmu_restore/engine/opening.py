"""Opens a volume: definition, state file, stores, recovery after an unclean stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.geometry import Geometry
from ..core.intent_log import IntentLog
from ..core.overwrite_map import OverwriteMap
from ..core.progress import Counters
from ..core.state import VolumeState
from ..core.volume import Volume
from ..errors import (
    BlockSizeMismatchError,
    IdentityMismatchError,
    PrimaryTooSmallError,
    PrimaryUnusableError,
    RestoreError,
    SizeMismatchError,
    SourceUnreachableError,
    StateCorruptError,
)
from ..log_line import log_line
from ..options import IscsiOptions
from ..sources.base import BlockStore, SourceGeometry
from ..sources.credentials import load_credentials
from ..sources.file import FileStore
from ..sources.initiator import initiator_name
from ..sources.iscsi import IscsiStore
from ..sources.iscsi_url import parse_iscsi_url, parse_portal
from .definition import Definition, PeerDefinition, load_definition
from .device_watch import DeviceWatch
from .link_settings import LinkSettings
from .state_db import StateDb, StoredState
from .state_files import state_path
from .state_reading import geometry_of
from .volume_engine import Parts, VolumeEngine

log = logging.getLogger(__name__)


def connect_peer(  # noqa: PLR0913 - keyword-only settings
    peer: PeerDefinition,
    expected: SourceGeometry | None,
    on_change: Callable[[bool], None] | None = None,
    *,
    on_epoch: Callable[[int], None] | None = None,
    instance: str | None = None,
    sessions: int = 1,
    may_grow: bool = False,
    read_only: bool = False,
    start: bool = True,
) -> IscsiStore:
    """Return a store for *peer* that connects in the background, from now on if it is to *start*.

    *instance* names this use of the LUN, the same after a restart. Never waits for the peer.

    Raises:
        BadUrlError, BadDefinitionError: the URL or the credentials file cannot be used.
    """
    store = IscsiStore(
        parse_iscsi_url(peer.url),
        initiator=initiator_name(),
        options=_iscsi_options(peer.link, sessions),
        credentials=load_credentials(Path(peer.credentials)) if peer.credentials else None,
        expected=expected,
        may_grow=may_grow,
        read_only=read_only,
        instance=instance,
        on_change=on_change,
        on_epoch=on_epoch,
    )
    if start:
        store.start()
    return store


def _iscsi_options(link: LinkSettings, sessions: int) -> IscsiOptions:
    return IscsiOptions(
        header_digest=link.header_digest,
        sessions=link.sessions or sessions,
        portals=tuple(map(parse_portal, link.portals)),
        interface=link.interface,
        source_address=link.source_address,
    )


async def open_engine(  # noqa: PLR0913 - keyword-only settings
    name: str,
    definition_dir: Path,
    state_dir: Path,
    *,
    size: int,
    block_size: int,
    on_change: Callable[[str, str], None],
    watch: DeviceWatch | None = None,
) -> VolumeEngine:
    """Open the volume *name* and serve it; the backup may be unreachable.

    *size* and *block_size* (bytes) are what LIO was told; they must be what was recorded. Of a
    volume that has grown LIO may still have an earlier size: a resize was interrupted.

    Raises:
        UnknownVolumeError, BadDefinitionError, StateCorruptError, StateNewerError,
        SizeMismatchError, BlockSizeMismatchError: nothing was changed.
        StateWriteError: the state file is locked, or an old one cannot be migrated.
    """
    definition = load_definition(definition_dir, name)
    db, stored = StateDb.open(state_path(state_dir, name))
    try:
        geometry = _geometry(db, stored.facts, definition)
        _check_told(name, geometry, size, block_size, stored.facts.get("grown_from", ()))
        found = _Found(name, definition, geometry, db, stored)
        engine = await _assemble(found, on_change, watch)
    except BaseException:
        await db.close()
        raise
    engine.lio_size = size
    return engine


def _geometry(db: StateDb, facts: dict[str, Any], definition: Definition) -> Geometry:
    try:
        geometry = geometry_of(facts)
        SourceGeometry(**facts["backup"])
        str(facts["primary_identity"])
    except (KeyError, TypeError, AssertionError) as error:
        raise StateCorruptError(str(db.path), f"a recorded fact is missing: {error}") from error
    if geometry.region_size != definition.options.region_size:
        sentence = "region_size of an existing volume cannot be changed; keeping the old one"
        log.warning(log_line(sentence, volume=db.path.stem, operation="open"))
    return geometry


def _check_told(
    name: str, geometry: Geometry, size: int, block_size: int, earlier: Iterable[int]
) -> None:
    what = f"The LIO backstore of {name!r}"
    if size != geometry.size and size not in earlier:
        raise SizeMismatchError(what, size, geometry.size)
    if block_size != geometry.block_size:
        raise BlockSizeMismatchError(what, block_size, geometry.block_size)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is known of a volume before its stores are opened."""

    name: str
    definition: Definition
    geometry: Geometry
    db: StateDb
    stored: StoredState


async def _assemble(
    found: _Found, on_change: Callable[[str, str], None], watch: DeviceWatch | None
) -> VolumeEngine:
    definition, stored = found.definition, found.stored
    volume = Volume(_volume_state(found.geometry, definition, stored))
    volume.state.heat.restore(stored.facts.get("heat"))
    volume.recover()
    primary, is_missing = await _open_primary(found, volume)
    engines: list[VolumeEngine] = []
    backup = connect_peer(
        definition.backup,
        SourceGeometry(**stored.facts["backup"]),
        lambda reachable: engines[0].backup_changed(reachable) if engines else None,
        on_epoch=lambda epoch: _begin_epoch(found.name, volume, epoch),
        instance=f"{found.name}/backup",
        may_grow=True,
    )
    facts = dict(stored.facts)
    parts = Parts(found.name, definition, volume, found.db, backup, primary, facts, watch)
    engine = VolumeEngine(parts, on_change)
    engines.append(engine)
    if is_missing:
        engine.guard.was_missing()
    engine.changed()
    return engine


def _begin_epoch(name: str, volume: Volume, epoch: int) -> None:
    """Tell the core, and the log: what this costs cannot be found out afterwards."""
    unflushed = sum(map(len, volume.state.unflushed.values()))
    volume.backup_epoch_began(epoch)
    if unflushed:
        sentence = (
            "the backup's session was lost or it was reset; it may have forgotten regions it had "
            "not flushed: stale ones are sent again, lost ones are outdated"
        )
        log.warning(log_line(sentence, volume=name, operation="mirror", regions=unflushed))


def _volume_state(geometry: Geometry, definition: Definition, stored: StoredState) -> VolumeState:
    return VolumeState(
        geometry,
        OverwriteMap(geometry.region_count, stored.sets),
        IntentLog(
            stored.armed_zones,
            zone_count=geometry.zone_count,
            armed_max=definition.options.armed_zones_max,
        ),
        fetch_ahead_max=definition.options.fetch_ahead_max,
        populate_backlog_max=definition.options.populate_backlog,
        policy=definition.mirror,
        mirror_backlog_max=definition.options.mirror_backlog,
        counters=Counters.from_dict(stored.facts.get("counters", {})),
    )


async def _open_primary(found: _Found, volume: Volume) -> tuple[BlockStore | None, bool]:
    """Open the primary, or go on diskless: a missing disk must not keep the LUN away (LOSS-2).

    Returns the disk, and whether it is only missing. One that failed is not used again by itself.
    """
    try:
        store = await _open_recorded(found)
    except RestoreError as error:
        line = log_line(f"goes on diskless: {error}", volume=found.name, operation="open")
        log.error(line)  # noqa: TRY400
        volume.state.fail_primary(error)
        return None, isinstance(error, PrimaryUnusableError)
    return store, False


async def _open_recorded(found: _Found) -> FileStore:
    """Open the disk if it is the recorded one and has not failed earlier. Raises RestoreError."""
    failed = found.stored.facts.get("primary_failed")
    if failed:
        raise SourceUnreachableError(found.definition.primary, f"it failed earlier ({failed})")
    store = FileStore.open(found.definition.primary)
    try:
        _check_primary(store, found.geometry, found.stored.facts["primary_identity"])
        if found.stored.armed_zones:  # an unclean stop: the page cache may differ from the disk
            await store.drop_cache()
    except BaseException:
        await store.close()
        raise
    return store


def _check_primary(store: FileStore, geometry: Geometry, identity: str) -> None:
    found = store.geometry
    if found.size < geometry.size:
        raise PrimaryTooSmallError(store.name, found.size, geometry.size)
    if found.identity != identity:
        raise IdentityMismatchError(f"The disk {store.name}", found.identity, identity)
