"""A volume's command that compares both sides; see ``object_node``."""

from __future__ import annotations

from tcmu_restore.service.contract import VERIFY_REPAIRS, VERIFY_VERBS

from . import completion
from .volume_node import VolumeNode


class VerifyCommands(VolumeNode):
    """Combined into the volume's node by ``object_node``."""

    def ui_command_verify(self, action: str, repair: str | None = None) -> None:
        """
        Compares the local disk with the backup while initiators go on.

        The command returns at once; status shows the progress and what
        differs. It goes on after a restart.

        ACTIONS
        =======

        start
        -----
        Begins with the first byte.

        pause
        -----
        Pauses it; it keeps its position.

        resume
        ------
        Goes on where it was paused.

        cancel
        ------
        Stops it; what was found stays in the status.

        PARAMETERS
        ==========

        repair
        ------
        With start: which side is right where they differ, primary or backup.
        Without it, differences are only reported.

        SEE ALSO
        ========
        status
        """
        self.assert_root()
        self._choose(action, VERIFY_VERBS)
        self._choose(repair or "none", VERIFY_REPAIRS)
        if repair and action != "start":
            raise self.ui.ExecutionError("repair is chosen when the verification starts.")
        with self._change() as client:
            client.verify(action, self.volume, repair=repair or "none")
        self.shell.log.info(f"Verify: {action} done. See: status")

    def ui_complete_verify(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete the action and the side."""
        choices = {"action": VERIFY_VERBS, "repair": VERIFY_REPAIRS}
        return completion.words(text, choices.get(current_param, ()))
