"""A volume's commands for a loss: the disk replaced, bytes declared lost or accepted as outdated.

What gives something up says what it would do and wants ``confirm=true``, as targetcli's own
clearconfig does: a shell that may run a script does not ask.
"""

from __future__ import annotations

from typing import Final

from tcmu_restore.cli import consequence
from tcmu_restore.cli.condition import is_open
from tcmu_restore.cli.consequence import ByteRange
from tcmu_restore.cli.state import state_damage
from tcmu_restore.errors import VolumeNotOpenError
from tcmu_restore.service.registry_seam import VolumeStatus

from . import completion
from .volume_node import VolumeNode

_FLAGS: Final = ("force", "confirm")


class LossCommands(VolumeNode):
    """Combined into the volume's node by ``object_node``."""

    def ui_command_replace_primary(self, primary: str) -> None:
        """
        Puts another disk under the running volume, and starts the restore.

        What is on a new disk is overwritten. The disk that failed may be given
        back as well. Initiators notice nothing.

        PARAMETERS
        ==========

        primary
        -------
        Path of the local disk or file.

        SEE ALSO
        ========
        status attach_snapshot
        """
        self.assert_root()
        with self._change() as client:
            client.replace_primary(self.volume, primary)
        self.shell.log.info(f"{self.volume} is restored to {primary} now. See: status")

    def ui_complete_replace_primary(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete local paths."""
        return completion.disks(self.ui, text) if current_param == "primary" else []

    def ui_command_declare_lost(
        self,
        offset: str | None = None,
        length: str | None = None,
        force: str | None = None,
        confirm: str | None = None,
    ) -> None:
        """
        Counts bytes as lost: they are fetched from the backup again.

        For a disk that returns wrong bytes without an error. Without offset and
        length it is the whole volume.

        PARAMETERS
        ==========

        offset, length
        --------------
        Bytes, or a size such as 4k, 1M, 1G.

        force
        -----
        If true, even where only the local disk has the newest writes; these
        become outdated.

        confirm
        -------
        Without confirm=true it only says what it would do.

        SEE ALSO
        ========
        status accept_outdated
        """
        self.assert_root()
        extent, is_forced = self._parse_extent(offset, length), self._is_true(force)
        with self._change() as client:
            if not self._is_true(confirm):
                status = client.status(self.volume)
                self._want_confirmation(
                    consequence.declare_lost_consequences(status, extent, force=is_forced)
                )
            count = client.declare_lost(
                self.volume, offset=extent.offset, length=extent.length, force=is_forced
            )
        self.shell.log.info(f"{count} regions are lost now and come from the backup again.")

    def ui_command_accept_outdated(
        self, offset: str | None = None, length: str | None = None, confirm: str | None = None
    ) -> None:
        """
        Gives up the newest writes to what is outdated, for good.

        The bytes are outdated because the newest ones were lost with the local
        disk before the backup had them; reads of them fail. From then on the
        backup's older bytes count. Without offset and length it is all that is
        outdated.

        PARAMETERS
        ==========

        offset, length
        --------------
        Bytes, or a size such as 4k, 1M, 1G.

        confirm
        -------
        Without confirm=true it only lists what it would give up.

        SEE ALSO
        ========
        status declare_lost
        """
        self.assert_root()
        extent = self._parse_extent(offset, length)
        with self._change() as client:
            if not self._is_true(confirm):
                self._list_outdated(client.status(self.volume), extent)
                return
            count = client.accept_outdated(self.volume, offset=extent.offset, length=extent.length)
        self.shell.log.info(f"{count} regions: the backup's older bytes count from now on.")

    def ui_command_rebuild_state(self, confirm: str | None = None) -> None:
        """
        Makes the volume's damaged or missing state file anew.

        Everything counts as lost then, and is fetched from the backup again.
        It says what could be salvaged, and what it cost.

        PARAMETERS
        ==========

        confirm
        -------
        Without confirm=true it only says what it would do.

        SEE ALSO
        ========
        status
        """
        self.assert_root()
        with self._change() as client:
            if not self._is_true(confirm):
                damage = state_damage(client, self.volume)
                self._want_confirmation(consequence.rebuild_consequences(self.volume, damage))
            self.shell.con.display(client.rebuild_state(self.volume))

    def _complete_loss(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete what is true or false; there is nothing to offer for a size."""
        return completion.words(text, completion.BOOLEANS) if current_param in _FLAGS else []

    ui_complete_declare_lost = _complete_loss
    ui_complete_accept_outdated = _complete_loss
    ui_complete_rebuild_state = _complete_loss

    def _list_outdated(self, status: VolumeStatus, extent: ByteRange) -> None:
        """Say what would be accepted, or that there is nothing to accept."""
        if not is_open(status):
            raise VolumeNotOpenError(self.volume)
        extents = consequence.outdated_within(status, extent)
        if extents or consequence.has_unlisted_outdated(status):
            self._want_confirmation(consequence.accept_outdated_consequences(status, extents))
        self.shell.log.info(consequence.NOTHING_OUTDATED)
