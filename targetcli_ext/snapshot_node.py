"""Snapshot commands on targetcli's own nodes of ``block`` and ``fileio`` storage objects.

The commands are put into the loaded targetcli's node classes, not into subclasses: its ``create``
names these classes itself. The engine is the one of ``tcmu-restore snapshot-create``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from tcmu_restore.cli.backup_snapshot import attach_lines
from tcmu_restore.cli.extent import parse_extent
from tcmu_restore.cli.size import parse_size
from tcmu_restore.snapshots.choice import PROVIDER_NAMES
from tcmu_restore.snapshots.host import Host, this_host
from tcmu_restore.snapshots.listing import describe, list_snapshots
from tcmu_restore.snapshots.verbs import CreateRequest, create, delete
from tcmu_restore.units import format_size

from . import completion
from .translation import shell_errors

if TYPE_CHECKING:
    from .loaded_targetcli import ObjectBase
else:
    ObjectBase = object


def rtslib_of(ui: ModuleType) -> ModuleType:
    """Return the copy of rtslib that the loaded targetcli itself uses."""
    return sys.modules[ui.RTSRoot.__module__.partition(".")[0]]


class SnapshotCommands(ObjectBase):
    """The commands, as functions of a node; ``install`` gives them to the nodes' classes."""

    snapshot_ui: ModuleType
    make_snapshot_host: Callable[[], Host]

    def ui_command_snapshot_create(  # noqa: PLR0913, PLR0917 - configshell's way of options
        self,
        name: str,
        target: str | None = None,
        portal: str | None = None,
        extents: str | None = None,
        partition: str | None = None,
        provider: str | None = None,
        size: str | None = None,
    ) -> None:
        """
        Takes a snapshot and exports it read-only, as LUN 0 of a target of its
        own, to the initiators of this storage object, with their CHAP secrets.

        Whatever interrupts it, the same command finishes the job.

        PARAMETERS
        ==========

        target
        ------
        The IQN of the new target. By default it is made of this one's.

        portal
        ------
        ADDRESS[:PORT], so that the snapshot has a link of its own. By default
        the portals of this storage object's target.

        extents
        -------
        Only these bytes matter: OFFSET:LENGTH, several with commas.

        partition
        ---------
        Only the partition with this number matters.

        provider
        --------
        lvm-thin, lvm or reflink. By default what fits the storage object.

        size
        ----
        A classic LVM snapshot's own area, by default 20 % of the storage
        object. The snapshot is broken when it overflows.

        SEE ALSO
        ========
        snapshot_list snapshot_delete
        """
        self.assert_root()
        with _shell_errors(self.snapshot_ui):
            request = CreateRequest(
                origin=_origin(self),
                snapshot=name,
                target=target,
                portal=portal,
                extents=tuple(parse_extent(each) for each in (extents or "").split(",") if each),
                partition=int(partition) if partition else None,
                provider=provider,
                size=parse_size(size) if size else None,
            )
            made = describe(create(self.make_snapshot_host(), request))
        self.get_root().refresh()
        self.shell.log.info(f"Created snapshot {name}.")
        for line in attach_lines(made):
            self.shell.con.display(line)

    def ui_complete_snapshot_create(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete the provider."""
        return completion.words(text, PROVIDER_NAMES) if current_param == "provider" else []

    def ui_command_snapshot_list(self) -> None:
        """
        Shows the snapshots of this storage object.

        SEE ALSO
        ========
        snapshot_create snapshot_delete
        """
        self.assert_root()
        with _shell_errors(self.snapshot_ui):
            found = list_snapshots(self.make_snapshot_host(), _origin(self))
        for each in found:
            words = (each["snapshot"], each["provider"], format_size(each["size"]), each["state"])
            self.shell.con.display(", ".join((*words, each["created"], each["url"])))
        if not found:
            self.shell.con.display("There are no snapshots.")

    def ui_command_snapshot_delete(self, name: str) -> None:
        """
        Removes a snapshot with its LUN and its target.

        SEE ALSO
        ========
        snapshot_create snapshot_list
        """
        self.assert_root()
        with _shell_errors(self.snapshot_ui):
            existed = delete(self.make_snapshot_host(), name)
        self.get_root().refresh()
        self.shell.log.info(
            f"Deleted snapshot {name}." if existed else f"There is no snapshot {name}."
        )

    def ui_complete_snapshot_delete(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete the names of this storage object's snapshots."""
        if current_param != "name":
            return []
        with _shell_errors(self.snapshot_ui):
            found = list_snapshots(self.make_snapshot_host(), _origin(self))
        return completion.words(text, [each["snapshot"] for each in found])


COMMANDS: Final = tuple(name for name in vars(SnapshotCommands) if name.startswith("ui_co"))


def install(ui: ModuleType) -> None:
    """Give the commands to the node classes of the loaded module ``targetcli.ui_backstore``."""
    for node_class in (ui.UIBlockStorageObject, ui.UIFileioStorageObject):
        node_class.snapshot_ui = ui
        node_class.make_snapshot_host = staticmethod(lambda: this_host(rtslib_of(ui)))
        for name in COMMANDS:
            setattr(node_class, name, vars(SnapshotCommands)[name])


def _origin(node: Any) -> str:
    return f"{node.rtsnode.plugin}/{node.rtsnode.name}"


@contextmanager
def _shell_errors(ui: ModuleType) -> Iterator[None]:
    """Turn our errors, and texts that are not numbers, into the shell's."""
    with shell_errors(ui.ExecutionError):
        try:
            yield
        except ValueError as error:
            raise ui.ExecutionError(f"{error}.") from error
