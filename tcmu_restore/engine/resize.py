"""Lets a volume grow to the size of its backup. LIO's backstore is the caller's next step."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial

from ..errors import (
    BlockSizeMismatchError,
    IdentityMismatchError,
    PrimaryTooSmallError,
    WrongStateError,
)
from ..log_line import log_line
from ..sources.base import SourceGeometry
from ..sources.file import FileStore
from .creation import probe_backup
from .volume_engine import VolumeEngine

log = logging.getLogger(__name__)

_VERB = "resize"


async def resize(engine: VolumeEngine) -> int:
    """Take the backup's size, durably; return the volume's size in bytes, the new one or the same.

    Raises:
        WrongStateError: a snapshot is attached, the primary is failed, or the backup is smaller
            than the volume. PrimaryTooSmallError: the disk must grow first.
        IdentityMismatchError, BlockSizeMismatchError: it is another backup.
        SourceError: the backup did not answer. StateWriteError.
        The volume has its old size in each case.
    """
    found = await probe_backup(engine.definition.backup)
    _check_backup(engine, found)
    size = engine.size
    if found.size == size:
        return size
    if engine.snapshot is not None:
        reason = "a snapshot of the old size is attached; detach it first"
        raise WrongStateError(engine.name, _VERB, reason)
    _check_primary(engine, found.size)
    engine.backup.expected = found
    facts = {"backup": asdict(found), "grown_from": [*engine.facts.get("grown_from", ()), size]}
    engine.performer.size_facts = facts
    await engine.run_verb(_VERB, partial(engine.volume.grow, found.size))
    engine.facts |= facts | {"size": found.size}
    sentence = f"grown from {size} to {found.size} bytes"
    log.info(log_line(sentence, volume=engine.name, operation=_VERB))
    return found.size


def _check_backup(engine: VolumeEngine, found: SourceGeometry) -> None:
    recorded = engine.facts["backup"]
    url = f"The backup {engine.definition.backup.url}"
    if found.identity != recorded["identity"]:
        raise IdentityMismatchError(url, found.identity, recorded["identity"])
    if found.block_size != recorded["block_size"]:
        raise BlockSizeMismatchError(url, found.block_size, recorded["block_size"])
    if found.size < engine.size:
        reason = f"the backup has only {found.size} bytes, and a volume never shrinks"
        raise WrongStateError(engine.name, _VERB, reason)


def _check_primary(engine: VolumeEngine, needed: int) -> None:
    primary = engine.performer.primary
    if primary is None:
        raise WrongStateError(engine.name, _VERB, "its primary is failed; replace it first")
    assert isinstance(primary, FileStore)
    found = primary.measure()
    if found.size < needed:
        raise PrimaryTooSmallError(primary.name, found.size, needed)
