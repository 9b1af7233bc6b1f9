"""What an admin decides about loss on an open volume: replace, declare, accept, prepare."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pyroaring import BitMap64

from ..core.extent import Extent
from ..errors import OutOfRangeError, WrongStateError
from ..log_line import log_line
from .definition import save_primary
from .volume_engine import VolumeEngine

log = logging.getLogger(__name__)


async def replace_primary(engine: VolumeEngine, definition_dir: Path, path: str) -> None:
    """Make the disk at *path* the primary and write it into the definition.

    Raises what ``PrimaryGuard.replace`` raises, and BadDefinitionError: the disk is used, but the
    definition still names the old one.
    """
    await engine.replace_primary(path)
    save_primary(definition_dir, engine.name, path)


async def declare_lost(
    engine: VolumeEngine, offset: int, length: int | None, *, force: bool
) -> int:
    """Count the primary's copy of some bytes as lost; return the number of regions.

    Raises:
        WrongStateError: stale regions would become outdated, and *force* is not given.
        OutOfRangeError: the bytes are not the volume's. StateWriteError: not durable yet.
    """
    extent = _extent(engine, offset, length)
    sets = engine.volume.state.overwrite_map.sets
    regions = _regions(engine, extent)
    stale = len(regions & sets.stale)
    if stale and not force:
        reason = (
            f"the backup does not have the newest bytes of {stale} of these regions yet, and they "
            "would be given up; wait for the resync, or force it"
        )
        raise WrongStateError(engine.name, "declare these bytes lost", reason)
    count = len(regions & sets.current)
    await engine.run_verb("declare bytes lost", partial(engine.volume.declare_lost, extent))
    _log(engine, "declare-lost", extent, f"{count} regions declared lost")
    return count


async def accept_outdated(engine: VolumeEngine, offset: int, length: int | None) -> int:
    """Let the backup's older bytes count for outdated regions; return their number.

    Raises:
        OutOfRangeError: the bytes are not the volume's. StateWriteError: not durable yet.
    """
    extent = _extent(engine, offset, length)
    count = len(_regions(engine, extent) & engine.volume.state.overwrite_map.sets.outdated)
    await engine.run_verb("accept outdated", partial(engine.volume.accept_outdated, extent))
    _log(engine, "accept-outdated", extent, f"{count} outdated regions accepted")
    return count


async def prepare_snapshot(engine: VolumeEngine) -> None:
    """Let the next snapshot of the backup fill what is in doubt.

    Raises:
        WrongStateError: a snapshot is attached. SourceError: the backup could not flush.
        StateWriteError: the state file cannot be written.
    """
    if engine.snapshot is not None:
        reason = "a snapshot is attached; detach it, then prepare, then take the new one"
        raise WrongStateError(engine.name, "prepare a snapshot", reason)
    since = {"snapshots_since": datetime.now(UTC).isoformat()}
    await engine.db.commit_facts(since)  # before: no older one may be taken for the new one
    engine.facts |= since
    await engine.run_verb("prepare a snapshot", engine.volume.prepare_snapshot)


def _extent(engine: VolumeEngine, offset: int, length: int | None) -> Extent:
    size = engine.volume.state.geometry.size
    wanted = max(0, size - offset) if length is None else length
    if offset < 0 or wanted <= 0 or offset + wanted > size:
        raise OutOfRangeError(offset, wanted, size)
    return Extent(offset, wanted)


def _regions(engine: VolumeEngine, extent: Extent) -> BitMap64:
    return BitMap64(engine.volume.state.geometry.regions(extent))


def _log(engine: VolumeEngine, operation: str, extent: Extent, sentence: str) -> None:
    place = {"offset": extent.offset, "length": extent.length}
    log.warning(log_line(sentence, volume=engine.name, operation=operation, **place))
