"""``/backstores/user:restore/NAME``: one volume, with its snapshot, merge, resync and status.

A mixin over the loaded targetcli's UIUserBackedStorageObject; see ``backstore_node``.
"""

from __future__ import annotations

from typing import Final

from tcmu_restore.cli.status_text import status_lines

from . import completion
from .completion import BOOLEANS
from .life_node import LifeCommands
from .link import link_settings
from .loss_node import LossCommands
from .restore_node import RestoreFromCommand
from .translation import shell_errors
from .verify_node import VerifyCommands

MERGE_ACTIONS: Final = ("start", "pause", "resume", "cancel")
RESYNC_ACTIONS: Final = ("pause", "resume")


class RestoreObjectMixin(LossCommands, LifeCommands, RestoreFromCommand, VerifyCommands):
    """The volume's commands. None blocks but restore_from: a merge runs in the service."""

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
        lines = status_lines(
            status, replace_command="replace_primary", attach_command="attach_snapshot"
        )
        self.shell.con.display("\n".join(lines))

    def ui_command_prepare_snapshot(self) -> None:
        """
        Says that a new snapshot of the backup is about to be taken.

        To be run before each snapshot: what the backup holds by now may then
        come from the snapshot.

        SEE ALSO
        ========
        attach_snapshot
        """
        self.assert_root()
        with self._change() as client:
            client.prepare_snapshot(self.volume)
        self.shell.log.info("Take the snapshot on the backup host now; then: attach_snapshot")

    def ui_command_attach_snapshot(  # noqa: PLR0913, PLR0917 - one parameter an option
        self,
        snapshot: str,
        credentials: str | None = None,
        extents: str | None = None,
        portals: str | None = None,
        interface: str | None = None,
        source_address: str | None = None,
        sessions: str | None = None,
        header_digest: str | None = None,
        rate_max: str | None = None,
        link_up: str | None = None,
        link_down: str | None = None,
        link_timeout: str | None = None,
    ) -> None:
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

        extents
        -------
        All that the snapshot covers, as OFFSET:LENGTH, several of them with
        commas: 0:1G,4G:64M. Without it the snapshot covers everything.

        portals
        -------
        Further portals of the snapshot's target, tried when one is dead:
        HOST[:PORT], several with commas. This and what follows goes before
        [snapshot_link] of the volume's definition.

        interface, source_address
        -------------------------
        Reach it over this interface only, or from this address.

        sessions, header_digest
        -----------------------
        iSCSI sessions, by default two. If header_digest is true, iSCSI headers
        are checksummed.

        rate_max
        --------
        Background work sends at most so many bytes a second over the link.

        link_up, link_down
        ------------------
        Commands that bring the link up, and down when the merge is over, with
        commas between the words: /sbin/ip,link,set,eth1,up. No shell runs them;
        no secrets, they show in ps.

        link_timeout
        ------------
        A link command that takes longer than so many seconds is killed; 30 if
        not given.

        SEE ALSO
        ========
        merge detach_snapshot
        """
        self.assert_root()
        selected = self._parse_extents(extents)
        link = link_settings(
            self,
            portals=portals,
            interface=interface,
            source_address=source_address,
            sessions=sessions,
            header_digest=header_digest,
            rate_max=rate_max,
            link_up=link_up,
            link_down=link_down,
            link_timeout_seconds=link_timeout,
        )
        with self._change() as client:
            client.attach_snapshot(
                self.volume, snapshot, credentials=credentials, extents=selected, link=link
            )
        self.shell.log.info("Attached. Copy it with: merge start")

    def ui_complete_attach_snapshot(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete local paths, or the scheme of a URL."""
        if current_param == "snapshot":
            return completion.urls(text) or completion.disks(self.ui, text)
        if current_param == "credentials":
            return completion.files(self.ui, text)
        return completion.words(text, BOOLEANS) if current_param == "header_digest" else []

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
        self._choose(action, MERGE_ACTIONS)
        with self._change() as client:
            client.merge(action, self.volume)
        self.shell.log.info(f"Merge: {action} done. See: status")

    def ui_complete_merge(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete the action."""
        return completion.words(text, MERGE_ACTIONS) if current_param == "action" else []

    def ui_command_resync(self, action: str) -> None:
        """
        Holds back what is sent to the backup afterwards, or lets it go.

        Regions are stale when they were written while the backup was away.

        ACTIONS
        =======

        pause
        -----
        Sends none of them; they stay on the local disk only.

        resume
        ------
        Goes on.

        SEE ALSO
        ========
        status
        """
        self.assert_root()
        self._choose(action, RESYNC_ACTIONS)
        with self._change() as client:
            client.resync(action, self.volume)
        self.shell.log.info(f"Resync: {action} done. See: status")

    def ui_complete_resync(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete the action."""
        return completion.words(text, RESYNC_ACTIONS) if current_param == "action" else []
