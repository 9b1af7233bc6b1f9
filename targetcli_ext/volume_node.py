"""What every command of a volume's node uses; see ``object_node``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from tcmu_restore.cli.client import ServiceClient
from tcmu_restore.cli.consequence import ByteRange
from tcmu_restore.cli.extent import parse_extent
from tcmu_restore.cli.size import parse_size

from .status_cache import StatusCache
from .translation import shell_errors

if TYPE_CHECKING:
    from .loaded_targetcli import ObjectBase
else:
    ObjectBase = object


class VolumeNode(ObjectBase):
    """A volume's node without commands."""

    ui: ClassVar[ModuleType]
    client: ClassVar[ServiceClient]
    cache: ClassVar[StatusCache]

    @property
    def volume(self) -> str:
        """The volume's name: the config string without the handler's name."""
        return str(self.rtsnode.config or "").partition("/")[2] or str(self.name)

    @contextmanager
    def _change(self) -> Iterator[ServiceClient]:
        """Give the client to change the volume with; the tree shows the change at once."""
        with shell_errors(self.ui.ExecutionError):
            yield self.client
        self.cache.forget(self.volume)

    def _choose(self, action: str, actions: tuple[str, ...]) -> None:
        """Refuse an action that is not one of *actions*."""
        if action not in actions:
            choices = ", ".join(actions)
            raise self.ui.ExecutionError(f"Unknown action {action!r}; choose from: {choices}.")

    def _parse_extent(self, offset: str | None, length: str | None) -> ByteRange:
        """Return the bytes that the user named."""
        try:
            end = None if length is None else parse_size(length)
            return ByteRange(parse_size(offset or "0"), end)
        except ValueError as error:
            raise self.ui.ExecutionError(f"{error}.") from error

    def _parse_extents(self, text: str | None) -> list[tuple[int, int]] | None:
        """Return the offsets and lengths of ``OFFSET:LENGTH,...`` in bytes."""
        if text is None:
            return None
        try:
            return [parse_extent(part) for part in text.split(",")]
        except ValueError as error:
            raise self.ui.ExecutionError(f"{error}.") from error

    def _is_true(self, text: str | None) -> bool:
        """Return the user's true or false; false if nothing was said."""
        return bool(self.ui_eval_param(text, "bool", False))

    def _want_confirmation(self, sentences: list[str]) -> None:
        """Say what would be done, and that it was not."""
        raise self.ui.ExecutionError("\n".join([*sentences, "Add confirm=true to do it."]))
