"""A backup host with this package, driven over SSH: ``tcmu-restore snapshot-create`` and so on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Final

from ..errors import (
    BackupHostRefusedError,
    BadAnswerError,
    BadSettingError,
    RemoteCommandMissingError,
)
from . import ssh
from .answer import one_line, parse_created, parse_deleted, parse_listed
from .backup_host import BackupHost, HostSettings, RemoteSnapshot, SnapshotRequest
from .ssh import Finished

COMMAND: Final = "tcmu-restore"
_CONFIGFS: Final = "/sys/kernel/config/target/iscsi"
_PLUGINS: Final = {"iblock": "block", "fileio": "fileio"}
_STORAGE_OBJECT: Final = re.compile(r"(?:\.\./)+target/core/([a-z]+)_[0-9]+/([A-Za-z0-9._:-]+)")
_MISSING: Final = (126, 127)
"""What a shell ends with when it cannot run a command."""

Run = Callable[[HostSettings, Sequence[str]], Finished]


class SshBackupHost(BackupHost):
    """See ``backup_host.BackupHost``. A user other than root needs sudo there, with no password."""

    def __init__(self, settings: HostSettings, run: Run = ssh.run) -> None:
        self._settings = settings
        self._run = run
        self._peers: set[str] = set()

    @property
    def name(self) -> str:
        """As the admin named it."""
        return self._settings.address

    @property
    def addresses(self) -> frozenset[str]:
        """The other ends of the connections so far."""
        return frozenset(self._peers)

    def find_origin(self, iqn: str, lun: int) -> str:
        """Look into the kernel's target configuration there.

        Raises BadSettingError as well: it is not there, or not one that a snapshot can be taken of.
        """
        path = f"{_CONFIGFS}/{iqn}"
        words = ["find", path, "-path", f"*/lun/lun_{lun}/*", "-type", "l", "-printf", "%l\\n"]
        done = self._call(words)
        lines = set(done.output.decode("utf-8", "replace").split())
        found = {self._origin_of(line) for line in lines}
        if done.status != 0 or len(found) != 1 or None in found:
            reason = f"no block or fileio object is LUN {lun} of {iqn} there; name it: block/NAME"
            raise BadSettingError("origin", "", reason)
        return str(found.pop())

    @staticmethod
    def _origin_of(line: str) -> str | None:
        match = _STORAGE_OBJECT.fullmatch(line)
        if match is None or match[1] not in _PLUGINS:
            return None
        return f"{_PLUGINS[match[1]]}/{match[2]}"

    def has_snapshot(self, request: SnapshotRequest) -> bool:
        """Ask ``snapshot-list``."""
        return request.snapshot in parse_listed(self.name, self._ask("snapshot-list"))

    def create(self, request: SnapshotRequest) -> RemoteSnapshot:
        """Ask ``snapshot-create``."""
        words: list[str] = []
        for name in ("target", "portal", "partition", "provider", "size"):
            value = asdict(request)[name]
            words += [] if value is None else [f"--{name}", str(value)]
        for offset, length in request.extents or ():
            words += ["--extent", f"{offset}:{length}"]
        said = self._ask("snapshot-create", *words, "--", request.origin, request.snapshot)
        return parse_created(self.name, said, request)

    def delete(self, request: SnapshotRequest) -> bool:
        """Ask ``snapshot-delete``."""
        said = self._ask("snapshot-delete", "--", request.snapshot)
        return parse_deleted(self.name, said, request)

    def remove_command(self, request: SnapshotRequest) -> str:
        """Return our own command."""
        return f"{COMMAND} snapshot-delete {shlex.quote(request.snapshot)}"

    def _ask(self, verb: str, *words: str) -> bytes:
        """Return what our command there prints with --json."""
        done = self._call([COMMAND, verb, "--json", *words])
        if done.status == 0:
            return done.output
        said = one_line(done.errors.decode("utf-8", "replace"))
        is_old = "No such command" in said
        if done.status in _MISSING or is_old or (self._is_sudo and "not found" in said):
            raise RemoteCommandMissingError(self.name, said or "there is no such command")
        if done.status is None:
            raise BadAnswerError(self.name, "the command was ended by a signal")
        said = said.removeprefix("tcmu-restore: ")
        raise BackupHostRefusedError(self.name, said or f"status {done.status}, without a word")

    @property
    def _is_sudo(self) -> bool:
        return self._settings.user != "root"

    def _call(self, words: Sequence[str]) -> Finished:
        done = self._run(self._settings, ["sudo", "-n", *words] if self._is_sudo else words)
        self._peers.add(done.peer)
        return done
