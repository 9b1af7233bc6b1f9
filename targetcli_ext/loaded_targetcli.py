"""What the nodes use of the targetcli that is loaded, for the type checker only.

targetcli publishes no types, and which targetcli is loaded is known only at run time, so at run
time the mixins' bases are plain ``object`` and ``patch`` puts targetcli's classes behind them.
"""

from __future__ import annotations

from typing import Any


class NodeBase:
    """A targetcli node (configshell's ConfigNode below it)."""

    name: str
    shell: Any

    def assert_root(self) -> None:
        """Raise an ExecutionError unless the user is root."""

    def summary(self) -> tuple[str, bool | None]:
        """Return the words and the health that the tree shows."""
        raise NotImplementedError

    def get_root(self) -> Any:
        """Return the root of the tree."""

    def get_child(self, name: str) -> Any:
        """Return a child, or raise ValueError."""

    def new_node(self, new_node: Any) -> Any:
        """Return what a create command returns."""

    def ui_eval_param(self, ui_value: str | None, type: str, default: Any) -> Any:  # noqa: A002
        """Return a typed value for the user's text."""


class BackstoreBase(NodeBase):
    """targetcli's UIUserBackedBackstore."""

    so_cls: type

    def refresh(self) -> None:
        """List the storage objects."""

    def ui_command_create(
        self,
        name: str,
        size: Any,
        cfgstring: Any,
        wwn: Any = None,
        hw_max_sectors: Any = None,
        control: Any = None,
    ) -> Any:
        """Create a storage object."""

    def ui_command_delete(self, name: str, save: Any = None) -> None:
        """Delete a storage object."""


class ObjectBase(NodeBase):
    """targetcli's UIUserBackedStorageObject."""

    rtsnode: Any
