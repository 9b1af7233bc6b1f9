"""``saveconfig`` that loses no volume: neither typed nor by itself when the shell ends.

A volume that could not be opened at boot is in the saved configuration but not in the kernel. The
root node's command is wrapped: such volumes are kept in what is written, with their LUNs and ACLs,
and it says so. One that was deleted in this shell is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tcmu_restore.cli.errors import SavedConfigError
from tcmu_restore.cli.lio_restore import defined_volumes
from tcmu_restore.cli.saved_config import Config, keep_skipped, read_config, skipped_volumes

_MARK: Final = "tcmu_restore_saves"


def install(root_module: ModuleType, deleted: set[str]) -> None:
    """Wrap the loaded ``targetcli.ui_root``'s saveconfig; a second time does nothing.

    *deleted*: the volumes whose backstores were deleted in this shell; looked at when saving.
    """
    node = root_module.UIRoot
    if hasattr(node, _MARK):
        return
    save = node.ui_command_saveconfig
    default = root_module.default_save_file

    def ui_command_saveconfig(
        self: Any, savefile: str = default, forget_skipped: str | None = None
    ) -> None:
        """
        Saves the current configuration to a file so that it can be restored on
        next boot.

        Volumes that are saved there but could not be loaded are kept in it.

        PARAMETERS
        ==========

        forget_skipped
        --------------
        If true, they are left out.
        """
        self.assert_root()
        is_forgetful = self.ui_eval_param(forget_skipped, "bool", False)
        names = [] if is_forgetful else _skipped(self, Path(savefile or default), deleted)
        with _keeping(self.rtsroot, Path(savefile or default), names):
            save(self, savefile)
        for name in names:
            self.shell.log.warning(
                f"The volume {name} is not loaded; it was kept in the configuration. Bring it "
                f"back with: tcmu-restore reload {name}; or leave it out with: saveconfig "
                "forget_skipped=true"
            )

    node.ui_command_saveconfig = ui_command_saveconfig
    setattr(node, _MARK, save)


def _skipped(node: Any, path: Path, deleted: set[str]) -> list[str]:
    """Return the volumes that *path* has and the kernel has not; a bad file is written anew."""
    try:
        names = skipped_volumes(node.rtsroot.dump(), read_config(path), defined_volumes())
    except SavedConfigError as error:
        node.shell.log.warning(str(error))
        return []
    return [name for name in names if name not in deleted]


@contextmanager
def _keeping(rtsroot: Any, path: Path, names: list[str]) -> Iterator[None]:
    """Let ``rtsroot.dump``, from which rtslib saves, have the volumes *names* as well."""
    if not names:
        yield
        return
    dump, saved = rtsroot.dump, read_config(path)

    def dump_with_skipped() -> Config:
        return keep_skipped(dump(), saved, names)

    rtsroot.dump = dump_with_skipped
    try:
        yield
    finally:
        del rtsroot.dump
