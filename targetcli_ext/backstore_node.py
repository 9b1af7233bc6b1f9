"""``/backstores/user:restore``: targetcli's node for user backstores, with a create that restores.

A mixin: the base class comes from the targetcli that is loaded (see ``patch``), and so do its
storage object class and its errors, which are reached through ``ui``.

configshell's rules: a command is a method ``ui_command_NAME`` whose docstring is the user's help;
arguments are texts; it returns None or a node.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from tcmu_restore.cli import lio
from tcmu_restore.cli.client import ServiceClient
from tcmu_restore.cli.consequence import rebuild_consequences
from tcmu_restore.cli.creation import VolumeSettings, create
from tcmu_restore.cli.lio_restore import find_skipped
from tcmu_restore.cli.reload import reload_volume
from tcmu_restore.cli.state import state_damage
from tcmu_restore.service.contract import MIRROR_MODES

from . import completion
from .completion import BOOLEANS
from .link import link_settings
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
    deleted: ClassVar[set[str]]

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
        mirror: str | None = None,
        portals: str | None = None,
        interface: str | None = None,
        source_address: str | None = None,
        sessions: str | None = None,
        rate_max: str | None = None,
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

        mirror
        ------
        What a write waits for: sync (the default), both sides, or the local
        disk alone while the backup is away; async, the local disk, and the
        backup has it soon after; strict, both sides, always.

        portals
        -------
        Further portals of the backup's target, tried when one is dead:
        HOST[:PORT], several with commas.

        interface, source_address
        -------------------------
        Reach the backup over this interface only, or from this address.

        sessions, header_digest
        -----------------------
        iSCSI sessions, by default one. If header_digest is true, iSCSI headers
        are checksummed.

        rate_max
        --------
        Background work sends at most so many bytes a second to the backup.

        EXAMPLE
        =======

        create name=vol0 primary=/dev/vdb backup=iscsi://backup1/iqn.2024-01.org.example:b0/0
        -------------------------------------------------------------------------------------
        Creates vol0 on /dev/vdb.
        """
        self.assert_root()
        link = link_settings(
            self,
            portals=portals,
            interface=interface,
            source_address=source_address,
            sessions=sessions,
            header_digest=header_digest,
            rate_max=rate_max,
        )
        plain = (size, cfgstring, wwn, hw_max_sectors, control)
        rest = {"credentials": credentials, "mirror": mirror, "link": link or None}
        try:
            if all(given is None for given in (primary, backup, *rest.values())):
                self._create_plain(name, *plain)
            elif any(plain):
                self._refuse("Give either primary and backup, or size and cfgstring; not both.")
            else:
                self._create_volume(name, primary, backup, rest)
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
            return completion.words(text, BOOLEANS)
        if current_param == "mirror":
            return completion.words(text, MIRROR_MODES)
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
        volume = self._volume_of(name)
        super().ui_command_delete(name, save)
        self.deleted.add(volume)
        self.cache.forget(name)
        if forget_too:
            with shell_errors(self.ui.ExecutionError):
                self.client.delete_volume(name)
            self.shell.log.info(f"Deleted the volume {name}.")

    def ui_command_rebuild_state(self, name: str, confirm: str | None = None) -> None:
        """
        Makes a volume's damaged or missing state file anew.

        A volume that cannot be opened may have no storage object, and so no
        node; then this is the way. Everything counts as lost afterwards, and is
        fetched from the backup again. It says what could be salvaged, and what
        it cost.

        PARAMETERS
        ==========

        confirm
        -------
        Without confirm=true it only says what it would do.
        """
        self.assert_root()
        with shell_errors(self.ui.ExecutionError):
            if not self.ui_eval_param(confirm, "bool", False):
                sentences = rebuild_consequences(name, state_damage(self.client, name))
                self._refuse("\n".join([*sentences, "Add confirm=true to do it."]))
            self.shell.con.display(self.client.rebuild_state(name))
        self.cache.forget(name)

    def ui_command_reload(self, name: str | None = None) -> None:
        """
        Brings back a volume that was skipped when the configuration was
        restored, with its LUNs and ACLs; without a name all of them.

        SEE ALSO
        ========
        rebuild_state
        """
        self.assert_root()
        rtslib = lio.load_rtslib_of(self.ui.RTSRoot)
        with shell_errors(self.ui.ExecutionError):
            for one in [name] if name else find_skipped(rtslib):
                for line in reload_volume(self.client, rtslib, one):
                    self.shell.con.display(line)
        self.get_root().refresh()

    def _create_volume(
        self, name: str, primary: str | None, backup: str | None, rest: dict[str, Any]
    ) -> None:
        if not primary or not backup:
            self._refuse("Both are needed: primary and backup.")
        settings = VolumeSettings(primary=primary, backup=backup, **rest)
        with shell_errors(self.ui.ExecutionError):
            storage_object_class = self.ui.UserBackedStorageObject
            created = create(self.client, storage_object_class, name, settings)
        self.shell.log.info(f"Created volume {name} size {created.size}.")

    def _create_plain(self, name: str, size: str | None, cfgstring: str | None, *rest: Any) -> None:
        if not size or not cfgstring:
            self._refuse("Give primary and backup, or size and cfgstring.")
        super().ui_command_create(name, size, cfgstring, *rest)
        with shell_errors(self.ui.ExecutionError):
            lio.disable_command_timeout(self.get_child(name).rtsnode)

    def _volume_of(self, name: str) -> str:
        """Return the volume of the storage object *name*; the name itself if there is none."""
        try:
            return str(self.get_child(name).volume)
        except ValueError:
            return name

    def _refuse(self, sentence: str) -> NoReturn:
        raise self.ui.ExecutionError(sentence)
