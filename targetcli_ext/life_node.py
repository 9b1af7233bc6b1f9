"""A volume's commands for the time after a restore: resize, protect, handover.

handover says what it would do and wants ``confirm=true``; see ``loss_node``.
"""

from __future__ import annotations

from tcmu_restore.cli import lio
from tcmu_restore.cli.handover import carry_out, make_handover
from tcmu_restore.cli.handover_plan import consequences, load_plan
from tcmu_restore.cli.resize import resize_volume
from tcmu_restore.service.contract import MIRROR_MODES

from . import completion
from .completion import BOOLEANS
from .volume_node import VolumeNode


class LifeCommands(VolumeNode):
    """Combined into the volume's node by ``object_node``."""

    def ui_command_resize(self) -> None:
        """
        Lets the volume grow to the size of its backup.

        To be run when the backup and the local disk have grown. The
        configuration is saved. Initiators see the new size when they rescan.
        """
        self.assert_root()
        rtslib = lio.load_rtslib_of(self.ui.RTSRoot)
        with self._change() as client:
            for line in resize_volume(client, rtslib, self.volume):
                self.shell.con.display(line)

    def ui_command_protect(self, mirror: str | None = None) -> None:
        """
        Keeps the volume mirrored after its restore, ready for the next loss.

        PARAMETERS
        ==========

        mirror
        ------
        What a write waits for from now on: sync, async or strict; as it is if
        not given.

        SEE ALSO
        ========
        handover
        """
        self.assert_root()
        if mirror is not None:
            self._choose(mirror, MIRROR_MODES)
        with self._change() as client:
            policy = mirror or client.status(self.volume).get("mirror", MIRROR_MODES[0])
            client.protect(self.volume, policy)
        self.shell.log.info(f"{self.volume} stays mirrored ({policy}).")

    def ui_complete_protect(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete the policy."""
        return completion.words(text, MIRROR_MODES) if current_param == "mirror" else []

    def ui_command_handover(self, confirm: str | None = None, forget: str | None = None) -> None:
        """
        Gives the disk of the restored volume to a plain backstore.

        Serial, WWN, LUNs and ACLs stay, and the configuration is saved. Nothing
        is mirrored from then on. If it was interrupted, run it again; when the
        volume's node is gone by then, with: tcmu-restore handover

        PARAMETERS
        ==========

        confirm
        -------
        Without confirm=true it only says what it would do.

        forget
        ------
        If true, the volume's definition and state are deleted as well.

        SEE ALSO
        ========
        protect
        """
        self.assert_root()
        rtslib = lio.load_rtslib_of(self.ui.RTSRoot)
        root, is_forgetful = self.get_root(), self._is_true(forget)
        with self._change() as client:
            plan = load_plan(self.volume)
            if plan is None:
                plan = make_handover(client, rtslib, self.volume, forget=is_forgetful)
            if not self._is_true(confirm):
                size = client.status(self.volume)["size"]
                self._want_confirmation(consequences(plan, size))
            for line in carry_out(client, rtslib, plan):
                self.shell.con.display(line)
        root.refresh()

    def ui_complete_handover(
        self, _parameters: dict[str, str], text: str, _current_param: str
    ) -> list[str]:
        """Complete true and false."""
        return completion.words(text, BOOLEANS)
