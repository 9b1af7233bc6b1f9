"""A volume's ``restore_from``: the whole restore from a backup host in one command."""

from __future__ import annotations

from typing import Final

from rich.console import Console

from tcmu_restore.cli.client import ServiceClient
from tcmu_restore.cli.restore_run import RestoreRun, unfinished_lines
from tcmu_restore.cli.restore_settings import RestoreSettings, make_settings
from tcmu_restore.cli.size import parse_size

from . import completion
from .completion import BOOLEANS
from .volume_node import VolumeNode

_FILES: Final = ("key", "known_hosts", "login", "credentials")
_FLAGS: Final = ("abort", "forget")


class RestoreFromCommand(VolumeNode):
    """Combined into the volume's node by ``object_node``."""

    def ui_command_restore_from(  # noqa: PLR0913, PLR0917 - one parameter an option
        self,
        host: str | None = None,
        origin: str | None = None,
        user: str = "root",
        port: str | None = None,
        key: str | None = None,
        known_hosts: str | None = None,
        login: str | None = None,
        target: str | None = None,
        portal: str | None = None,
        extents: str | None = None,
        partition: str | None = None,
        provider: str | None = None,
        size: str | None = None,
        credentials: str | None = None,
        abort: str | None = None,
        forget: str | None = None,
    ) -> None:
        """
        Restores the volume from a snapshot that is taken on the backup host
        now, to the end: snapshot, export, attach, merge, detach, delete.

        It waits for the merge. Interrupted, by whatever, the same command
        without parameters goes on.

        PARAMETERS
        ==========

        host
        ----
        Reached over SSH with a key; this package is there, too. Or the URL of
        targetd's API, https://HOST:18700/targetrpc

        origin
        ------
        The backup's storage object there, block/NAME or fileio/NAME; found out
        by itself. With targetd: POOL/VOLUME.

        user, port, key, known_hosts
        ----------------------------
        Of SSH. The host's key must be known; a user other than root uses sudo.

        login
        -----
        Of targetd: path of a root-only file with its user and password.

        target, portal
        --------------
        Where the snapshot is exported; portal gives it a link of its own.

        extents, partition
        ------------------
        Only these bytes, OFFSET:LENGTH with commas, or this partition.

        provider, size
        --------------
        lvm-thin, lvm or reflink, and a classic LVM snapshot's own area.

        credentials
        -----------
        Path of a root-only file with the CHAP names and secrets.

        abort
        -----
        If true, an unfinished restore is removed, here and there.

        forget
        ------
        If true as well, even if the backup host cannot be reached.
        """
        self.assert_root()
        wants_abort, wants_forget = self._is_true(abort), self._is_true(forget)
        with self._change() as client:
            run = self._run(client)
            if wants_abort:
                removed = run.abort(self.volume, forget=wants_forget)
                self.shell.log.info("Removed." if removed else "There is no unfinished restore.")
                return
            settings = make_settings(
                address=host,
                user=user,
                port=self._number(port),
                key=key,
                known_hosts=known_hosts,
                login=login,
                origin=origin,
                target=target,
                portal=portal,
                extents=tuple(self._parse_extents(extents) or ()) or None,
                partition=self._number(partition),
                provider=provider,
                size=self._number(size),
                credentials=credentials,
            )
            self._restore(run, settings)

    @staticmethod
    def _run(client: ServiceClient) -> RestoreRun:
        return RestoreRun(client=client, console=Console())

    def ui_complete_restore_from(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete local paths and flags."""
        if current_param in _FILES:
            return completion.files(self.ui, text)
        return completion.words(text, BOOLEANS) if current_param in _FLAGS else []

    def _restore(self, run: RestoreRun, settings: RestoreSettings | None) -> None:
        try:
            status = run.restore(self.volume, settings)
        except BaseException:  # Ctrl-C as well
            if run.is_unfinished(self.volume):
                self.shell.con.display("\n".join(unfinished_lines(self.volume)))
            raise
        words = "Nothing is lost." if status is None else "Merged; nothing is left there."
        self.shell.log.info(words)

    def _number(self, text: str | None) -> int | None:
        """Return the user's number or size."""
        if text is None:
            return None
        try:
            return parse_size(text)
        except ValueError as error:
            raise self.ui.ExecutionError(f"{error}.") from error
