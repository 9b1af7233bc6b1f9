"""Puts our nodes into a loaded targetcli, which has no plugin mechanism of its own.

``UIBackstores.refresh`` is wrapped: when it has listed tcmu-runner's handlers, the child of ours is
replaced by a subclass of the same class. The nodes of block and fileio storage objects get their
snapshot commands (see ``snapshot_node``). Classes and errors are taken from the namespace of the
loaded ``targetcli.ui_backstore``, because a distribution may ship rtslib and configshell twice. No
global name of targetcli is rebound: its 2.1 classes name themselves in ``super()``.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from tcmu_restore.cli.client import ServiceClient
from tcmu_restore.cli.context import say_what_is_awaited
from tcmu_restore.options import SUBTYPE

from . import snapshot_node
from .backstore_node import RestoreBackstoreMixin
from .object_node import RestoreObjectMixin
from .status_cache import StatusCache

_MARK: Final = "tcmu_restore_node"


def install(ui: ModuleType, deleted: set[str] | None = None) -> None:
    """Patch the loaded module ``targetcli.ui_backstore``; a second time does nothing.

    *deleted* gets the names of volumes whose backstores are deleted, for ``saving``.
    """
    backstores = ui.UIBackstores
    if hasattr(backstores, _MARK):
        return
    node_class = make_node_class(ui, set() if deleted is None else deleted)
    refresh = backstores.refresh

    def refresh_and_replace(self: Any) -> None:
        refresh(self)
        replace_child(self, node_class)

    setattr(backstores, _MARK, node_class)
    backstores.refresh = refresh_and_replace
    snapshot_node.install(ui)


def make_node_class(ui: ModuleType, deleted: set[str]) -> type[Any]:
    """Return our backstore node over the loaded targetcli's; its objects share one cache."""
    shared = {
        "ui": ui,
        "client": ServiceClient(on_slow=say_what_is_awaited),
        "cache": StatusCache(),
        "deleted": deleted,
    }
    object_class = type(
        "UIRestoreStorageObject", (RestoreObjectMixin, ui.UIUserBackedStorageObject), dict(shared)
    )
    return type(
        "UIRestoreBackstore",
        (RestoreBackstoreMixin, ui.UIUserBackedBackstore),
        {**shared, "object_class": object_class},
    )


def replace_child(backstores: Any, node_class: type[Any]) -> None:
    """Replace the plain node of our handler, if tcmu-runner offers it."""
    for child in list(backstores.children):
        if getattr(child, "handler", None) == SUBTYPE and not isinstance(child, node_class):
            backstores.remove_child(child)
            node_class(backstores, child.handler, child.iface, child.prop_dict)
