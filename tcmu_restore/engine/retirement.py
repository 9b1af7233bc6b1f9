"""What becomes of a volume that is wholly restored: it stays mirrored, or is put aside."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pyroaring import BitMap64

from ..core.overwrite_map import OverwriteMap
from ..errors import BadDefinitionError, UnknownVolumeError, WrongStateError
from ..log_line import log_line
from ..whole_file import sync_folder
from .definition import definition_path, load_definition, parse_mirror, save_protection
from .state_db import StateDb
from .state_files import files_of, state_path
from .state_reading import geometry_of, load
from .volume_engine import VolumeEngine

log = logging.getLogger(__name__)

ASIDE = ".handed-over"
"""Ends the names of files that are kept but not used: only ``take_back`` looks for them."""


async def protect(engine: VolumeEngine, definition_dir: Path, mirror: str) -> None:
    """Let writes wait for what *mirror* says from now on, and after a restart.

    Raises:
        BadSettingError: there is no such policy. BadDefinitionError: the definition cannot be
            written. WrongStateError: another command is under way. Nothing was changed then.
    """
    policy = parse_mirror(mirror)
    with engine.alone("protect"):
        save_protection(definition_dir, engine.name, policy)
        engine.definition = replace(engine.definition, mirror=policy, protected=True)
    verb = f"protect, mirror {policy.value}"
    await engine.run_verb(verb, partial(engine.volume.set_policy, policy))
    engine.resync.kick()


def peek(path: Path) -> tuple[dict[str, Any], bool]:
    """Return the facts of a state file that is not open, and whether everything is restored.

    Raises StateNewerError and StateCorruptError; changes nothing.
    """
    stored = load(path).stored
    facts = stored.facts
    try:
        count = geometry_of(facts).region_count
    except (KeyError, TypeError, AssertionError):
        return facts, False
    return facts, len(stored.sets.current) == count and not facts.get("primary_failed")


def retire(name: str, definition_dir: Path, state_dir: Path, *, forget: bool) -> None:
    """Put the files of *name* where no backstore can open them, or *forget* them.

    The definition goes first: without it the volume is not opened, wherever this is interrupted.

    Raises:
        WrongStateError: the primary does not hold everything; nothing was changed.
        StateCorruptError, StateNewerError, BadDefinitionError: nothing was changed.
    """
    state = state_path(state_dir, name)
    definition = definition_path(definition_dir, name)
    is_begun = not definition.exists() and _aside(definition).exists()
    if not is_begun:
        load_definition(definition_dir, name)
        if not peek(state)[1]:
            reason = "its primary does not hold everything; let the restore finish first"
            raise WrongStateError(name, "hand over", reason)
    try:
        for path in (definition, *files_of(state)):
            with suppress(FileNotFoundError):
                path.replace(_aside(path))
            sync_folder(path)
        if forget:
            for folder, stem in ((definition_dir, definition.name), (state_dir, state.name)):
                for path in folder.glob(f"{stem}*{ASIDE}"):
                    path.unlink()
    except OSError as error:
        raise BadDefinitionError(str(definition), str(error)) from error
    what = "forgotten" if forget else "put aside"
    log.info(log_line(f"handed over; it is {what}", volume=name, operation="handover"))


async def take_back(name: str, definition_dir: Path, state_dir: Path) -> None:
    """Let a volume that was handed over be opened again: all of it is current, and stale.

    Nobody knows what was written to its primary meanwhile, so the resync sends all of it. The
    definition comes last: until then nobody opens the volume. A second time does nothing.

    Raises:
        UnknownVolumeError: nothing of that name was put aside.
        StateCorruptError, StateNewerError, StateWriteError, BadDefinitionError: it stays aside.
    """
    definition, state = definition_path(definition_dir, name), state_path(state_dir, name)
    if definition.exists():
        return
    aside = _aside(definition)
    if not aside.exists():
        raise UnknownVolumeError(name)
    try:
        for path in files_of(state):
            with suppress(FileNotFoundError):
                _aside(path).replace(path)
        sync_folder(state)
        await _make_all_stale(state)
        aside.replace(definition)
        sync_folder(definition)
    except OSError as error:
        raise BadDefinitionError(str(definition), str(error)) from error
    sentence = "taken back; all of it is to be sent to the backup"
    log.info(log_line(sentence, volume=name, operation="handover"))


async def _make_all_stale(path: Path) -> None:
    facts, _ = peek(path)
    count = geometry_of(facts).region_count
    db, stored = StateDb.open(path)
    try:
        overwrite_map = OverwriteMap(count, stored.sets)
        overwrite_map.mark_host_written(range(count))
        overwrite_map.mark_stale(BitMap64(range(count)))
        await db.commit_map(overwrite_map.take_image(), {"primary_failed": None, "verify": None})
    finally:
        await db.close()


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ASIDE)
