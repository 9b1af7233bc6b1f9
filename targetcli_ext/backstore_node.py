"""``/backstores/user:restore``: targetcli's node for user backstores, with a create that restores.

A mixin: the base class comes from the targetcli that is loaded (see ``patch``), and so do its
storage object class and its errors, which are reached through ``ui``.

configshell's rules: a command is a method ``ui_command_NAME`` whose docstring is the user's help;
arguments are texts; it returns None or a node.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from tcmu_restore.cli import lio
from tcmu_restore.cli.client import ServiceClient
from tcmu_restore.cli.creation import VolumeSettings, create

from . import completion
from .status_cache import StatusCache
from .translation import shell_errors

if TYPE_CHECKING:
    from .loaded_targetcli import BackstoreBase
else:
    BackstoreBase = object


class RestoreBackstoreMixin(BackstoreBase):
    """The node's commands; combined with the loaded targetcli's UIUserBackedBackstore."""

    ui: ClassVar[ModuleType]
    object_class: ClassVar[type]
    client: ClassVar[ServiceClient]
    cache: ClassVar[StatusCache]

    def refresh(self) -> None:
        """List the storage objects with our own node class."""
        self.so_cls = self.object_class  # targetcli's __init__ sets its own just before this
        super().refresh()

    def ui_command_create(  # noqa: PLR0913, PLR0917 - targetcli's six parameters, in their order, and ours
        self,
        name: str,
        size: str | None = None,
        cfgstring: str | None = None,
        wwn: str | None = None,
        hw_max_sectors: str | None = None,
        control: str | None = None,
        primary: str | None = None,
        backup: str | None = None,
        credentials: str | None = None,
        header_digest: str | None = None,
    ) -> Any:
        """
        Creates a volume that is restored while it is in use.

        primary is the new, empty local disk or file, and backup the iSCSI LUN
        that holds a copy of every block. The volume can be used at once: what
        is not local yet is read from the backup.

        With size and cfgstring instead, only the storage object of a volume
        that is defined already is made, as for any user-backed storage object.

        PARAMETERS
        ==========

        primary
        -------
        Path of the local disk or file.

        backup
        ------
        URL of the backup: iscsi://HOST[:PORT]/IQN/LUN

        credentials
        -----------
        Path of a root-only file with the CHAP names and secrets.

        header_digest
        -------------
        If true, iSCSI headers are checksummed.

        EXAMPLE
        =======

        create name=vol0 primary=/dev/vdb backup=iscsi://backup1/iqn.2024-01.org.example:b0/0
        -------------------------------------------------------------------------------------
        Creates vol0 on /dev/vdb.
        """
        self.assert_root()
        plain = (size, cfgstring, wwn, hw_max_sectors, control)
        try:
            if primary is None and backup is None:
                self._create_plain(name, *plain)
            elif any(plain):
                self._refuse("Give either primary and backup, or size and cfgstring; not both.")
            else:
                self._create_volume(name, primary, backup, credentials, header_digest)
        finally:
            self.refresh()  # targetcli's own create lists its own node class
        return self.new_node(self.get_child(name))

    def ui_complete_create(
        self, _parameters: dict[str, str], text: str, current_param: str
    ) -> list[str]:
        """Complete local paths and the backup's scheme."""
        if current_param == "primary":
            return completion.disks(self.ui, text)
        if current_param == "credentials":
            return completion.files(self.ui, text)
        if current_param == "header_digest":
            return completion.words(text, ("true", "false"))
        if current_param == "backup":
            return completion.urls(text)
        return []

    def ui_command_delete(
        self, name: str, save: str | None = None, forget: str | None = None
    ) -> None:
        """
        Recursively deletes the storage object having the specified name. If
        there are LUNs using this storage object, they will be deleted too.

        The volume itself stays defined, with everything known about what is
        local already, unless forget=true is given. The disks are not touched.

        EXAMPLE
        =======

        delete vol0 forget=true
        -----------------------
        Deletes the storage object vol0, its LUNs, and the volume's definition.
        """
        forget_too = self.ui_eval_param(forget, "bool", False)
        super().ui_command_delete(name, save)
        self.cache.forget(name)
        if forget_too:
            with shell_errors(self.ui.ExecutionError):
                self.client.delete_volume(name)
            self.shell.log.info(f"Deleted the volume {name}.")

    def _create_volume(
        self,
        name: str,
        primary: str | None,
        backup: str | None,
        credentials: str | None,
        header_digest: str | None,
    ) -> None:
        if not primary or not backup:
            raise self.ui.ExecutionError("Both are needed: primary and backup.")
        settings = VolumeSettings(
            primary=primary,
            backup=backup,
            credentials=credentials,
            header_digest=self.ui_eval_param(header_digest, "bool", False),
        )
        with shell_errors(self.ui.ExecutionError):
            created = create(self.client, self.ui.UserBackedStorageObject, name, settings)
        self.shell.log.info(f"Created volume {name} size {created.size}.")

    def _create_plain(self, name: str, size: str | None, cfgstring: str | None, *rest: Any) -> None:
        if not size or not cfgstring:
            self._refuse("Give primary and backup, or size and cfgstring.")
        super().ui_command_create(name, size, cfgstring, *rest)
        with shell_errors(self.ui.ExecutionError):
            lio.disable_command_timeout(self.get_child(name).rtsnode)

    def _refuse(self, sentence: str) -> None:
        raise self.ui.ExecutionError(sentence)
