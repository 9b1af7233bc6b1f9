"""``/backstores/user:restore/NAME``: one volume, with its snapshot, its merge and its status.

A mixin over the loaded targetcli's UIUserBackedStorageObject; see ``backstore_node``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Final

from tcmu_restore.cli.client import ServiceClient
from tcmu_restore.cli.status_text import status_lines

from . import completion
from .status_cache import StatusCache
from .translation import shell_errors

if TYPE_CHECKING:
    from .loaded_targetcli import ObjectBase
else:
    ObjectBase = object

MERGE_ACTIONS: Final = ("start", "pause", "resume", "cancel")


class RestoreObjectMixin(ObjectBase):
    """The volume's commands. None of them blocks: a merge runs in the service."""

    ui: ClassVar[ModuleType]
    client: ClassVar[ServiceClient]
    cache: ClassVar[StatusCache]

    @property
    def volume(self) -> str:
        """The volume's name: the config string without the handler's name."""
        return str(self.rtsnode.config or "").partition("/")[2] or str(self.name)

    def summary(self) -> tuple[str, bool | None]:
        """Return targetcli's own text and the volume's state."""
        description, is_healthy = super().summary()
        if not is_healthy:
            return description, is_healthy
        words, health = self.cache.summary(self.volume)
        return f"{description}, {words}", health

    def ui_command_status(self) -> None:
        """
        Shows what the volume is doing: how much of it is local, whether the
        backup and the snapshot can be reached, how far the merge is, and what
        to do next.
        """
        with shell_errors(self.ui.ExecutionError):
            status = self.client.status(self.volume)
        self.shell.con.display("\n".join(status_lines(status)))

    def ui_command_attach_snapshot(self, snapshot: str, credentials: str | None = None) -> None:
        """
        Attaches a static copy of the backup, made after the loss.

        What is not local yet can then be merged from it in the background,
        over another link or from a disk that was carried here.

        PARAMETERS
        ==========

        snapshot
        --------
        An iSCSI LUN, iscsi://HOST[:PORT]/IQN/LUN, or the path of a disk or file.

        credentials
        -----------
        Path of a root-only file with the CHAP names and secrets.

        SEE ALSO
        ========
        merge detach_snapshot
        """
        self.assert_root()
        with self._change() as client:
            client.attach_snapshot(self.volume, snapshot, credentials=credentials)
        self.shell.log.info("Attached. Copy it with: merge start")

    def ui_complete_attach_snapshot(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete local paths, or the scheme of a URL."""
        if current_param == "snapshot":
            return completion.urls(text) or completion.disks(self.ui, text)
        if current_param == "credentials":
            return completion.files(self.ui, text)
        return []

    def ui_command_detach_snapshot(self) -> None:
        """
        Stops using the attached snapshot, so that it can be removed.
        """
        self.assert_root()
        with self._change() as client:
            client.detach_snapshot(self.volume)
        self.shell.log.info("Detached.")

    def ui_command_merge(self, action: str) -> None:
        """
        Copies the attached snapshot to the local disk in the background.

        The command returns at once; status shows the progress. What is local
        already is neither copied nor transmitted.

        ACTIONS
        =======

        start
        -----
        Starts the merge.

        pause
        -----
        Pauses it; it keeps its position.

        resume
        ------
        Goes on where it was paused.

        cancel
        ------
        Stops it; what was merged stays.

        SEE ALSO
        ========
        status attach_snapshot
        """
        self.assert_root()
        if action not in MERGE_ACTIONS:
            choices = ", ".join(MERGE_ACTIONS)
            raise self.ui.ExecutionError(f"Unknown action {action!r}; choose from: {choices}.")
        with self._change() as client:
            client.merge(action, self.volume)
        self.shell.log.info(f"Merge: {action} done. See: status")

    def ui_complete_merge(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete the action."""
        return completion.words(text, MERGE_ACTIONS) if current_param == "action" else []

    @contextmanager
    def _change(self) -> Iterator[ServiceClient]:
        with shell_errors(self.ui.ExecutionError):
            yield self.client
        self.cache.forget(self.volume)
