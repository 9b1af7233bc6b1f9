"""Statuses where a volume that cannot be opened must not hide the others, or end a long look."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from .. import errors
from ..service.errors import error_class
from ..service.registry_seam import VolumeStatus
from .errors import ReplyError
from .lio_status import with_lio

if TYPE_CHECKING:
    from .client import ServiceClient

_FILE_ERRORS: Final = (
    errors.BadDefinitionError,
    errors.StateCorruptError,
    errors.StateNewerError,
)


def closed_status(name: str, error: ReplyError) -> VolumeStatus:
    """Return the status of a volume whose files cannot be used; raise what is no such error."""
    if error_class(error.error_name) not in _FILE_ERRORS:
        raise error
    closed = {"volume": name, "state": "closed", "advice": str(error)}
    return cast(VolumeStatus, closed)


def read_statuses(client: ServiceClient) -> list[VolumeStatus]:
    """Return the status of every volume, by name. Raises what ``ServiceClient`` raises."""
    return [with_lio(_read(client.status, name)) for name in client.list_volumes()]


def _read(read: Callable[[str], VolumeStatus], name: str) -> VolumeStatus:
    try:
        return read(name)
    except ReplyError as error:
        return closed_status(name, error)
