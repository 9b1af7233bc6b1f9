"""Volumes as files: definitions and states, made, looked at and removed while not served."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import (
    RestoreError,
    StateCorruptError,
    StateNewerError,
    StateWriteError,
    UnfinishedRestoreError,
    VolumeExistsError,
    VolumeNotOpenError,
    WrongStateError,
)
from ..log_line import log_line
from ..options import VOLUME_NAME
from ..remote.record import record_path
from ..sources.file import check_unused
from ..sources.iscsi_url import parse_iscsi_url
from .bulk_link import FACT as BULK_LINK
from .bulk_link import closed_status, take_down_recorded
from .creation import first_facts, probe_backup, probe_primary
from .definition import (
    Definition,
    check_name,
    definition_path,
    load_definition,
    make_private,
    save_definition,
)
from .retirement import peek
from .state_db import StateDb
from .state_files import files_of, state_path
from .state_rebuild import rebuild

log = logging.getLogger(__name__)


class ClosedVolumes:
    """The files of all volumes of this host. Who calls has seen that the volume is not open."""

    def __init__(self, definition_dir: Path, state_dir: Path) -> None:
        self._definition_dir = definition_dir
        self._state_dir = state_dir

    def check(self, name: str) -> None:
        """Raise a RestoreError if *name* cannot be opened, as far as this host alone can tell."""
        load_definition(self._definition_dir, name)

    def list_names(self) -> list[str]:
        """Return the names of all defined volumes, sorted."""
        names = (path.stem for path in self._definition_dir.glob("*.toml"))
        return sorted(name for name in names if VOLUME_NAME.fullmatch(name))

    async def create(self, name: str, definition: Definition) -> int:
        """Define a volume whose primary has lost everything; return its size in bytes.

        Raises:
            UserError: the input cannot be used. SourceError: the backup did not answer.
            Whatever it raises, nothing was changed.
        """
        check_name(name)
        state = self._state_path(name)
        if definition_path(self._definition_dir, name).exists() or state.exists():
            raise VolumeExistsError(name)
        self._check_no_restore(name)
        parse_iscsi_url(definition.backup.url)
        check_unused(definition.primary)
        found = await probe_backup(definition.backup)
        facts = first_facts(
            found, await probe_primary(definition.primary, found), definition.options
        )
        try:
            make_private(self._state_dir)
        except OSError as error:
            raise StateWriteError(str(state), str(error)) from error
        save_definition(self._definition_dir, name, definition)
        try:
            StateDb.create(state, facts)
        except RestoreError:
            definition_path(self._definition_dir, name).unlink()
            raise
        log.info(log_line(f"created, {found.size} bytes", volume=name, operation="create"))
        return found.size

    async def delete(self, name: str) -> None:
        """Forget a volume: its definition and its state, not the data."""
        self._check_no_restore(name)
        with suppress(StateCorruptError, StateNewerError, WrongStateError):
            await self.take_link_down(name)
        definition_path(self._definition_dir, name).unlink()
        for path in files_of(self._state_path(name)):
            path.unlink(missing_ok=True)

    def status(self, name: str) -> dict[str, Any]:
        """Return the status document of *name*. Raises UnknownVolumeError, BadDefinitionError."""
        self.check(name)
        path = self._state_path(name)
        document: dict[str, Any] = {"volume": name, "state": "closed"}
        try:
            facts, is_restored = peek(path)
        except (StateCorruptError, StateNewerError) as error:
            return document | {
                "advice": str(error),
                "state_file": {"path": str(path), "error": str(error)},
            }
        return document | {
            "advice": str(VolumeNotOpenError(name)),
            "size": facts.get("size"),
            "block_size": facts.get("block_size"),
            "restored": is_restored,
            "state_file": {"path": str(path), "error": ""},
            "bulk_link": closed_status(name, facts.get(BULK_LINK)),
        }

    async def take_link_down(self, name: str) -> None:
        """Take down the bulk link that *name* left up. Raises WrongStateError: no command did that.

        LinkCommandError: it counts as up.
        """
        self.check(name)
        path = self._state_path(name)
        record = StateDb.peek(path).get(BULK_LINK)
        if record is None:
            reason = "no command has brought it up"
            raise WrongStateError(name, "take the bulk link down", reason)
        await take_down_recorded(record)
        db, _ = StateDb.open(path)
        await db.commit_facts({BULK_LINK: None})
        await db.close()

    async def rebuild(self, name: str, *, check_closed: Callable[[str], None]) -> str:
        """Make the state of *name* anew, with everything lost; return what that costs.

        *check_closed* raises if it is open; it is asked again after the backup was looked at.

        Raises:
            VolumeInUseError: it is being served. SourceError, UserError: the backup or the disk
                cannot be looked at. StateWriteError, StateNewerError. Nothing was changed then.
        """
        definition = load_definition(self._definition_dir, name)
        check_closed(name)
        found = await probe_backup(definition.backup, flush=True)
        disk = await probe_primary(definition.primary, found)
        check_closed(name)
        facts = first_facts(found, disk, definition.options)
        # here on the loop, though it blocks for a few fsyncs: nobody may open it meanwhile
        report = rebuild(self._state_path(name), facts)
        sentence = f"state rebuilt: {report.cost()}"
        log.warning(log_line(sentence, volume=name, operation="state-rebuild"))
        kept = f" The old state is kept as {report.moved_to}." if report.moved_to else ""
        return f"All of {name!r} is lost now and comes from the backup. {report.cost()}{kept}"

    def _state_path(self, name: str) -> Path:
        return state_path(self._state_dir, name)

    def _check_no_restore(self, name: str) -> None:
        """Raise UnfinishedRestoreError if a snapshot may be left; it must meet no other volume."""
        if record_path(self._state_dir, name).exists():
            raise UnfinishedRestoreError(name, "its snapshot may still be on the backup host")
