"""Making a volume: its definition and its LIO backstore, both or neither.

Shared by the command line and the targetcli node; no storage logic, only the order of two calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import RestoreError
from . import lio
from .errors import BackstoreError

if TYPE_CHECKING:
    from .client import ServiceClient


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSettings:
    """What a new volume is made of; *backup* is an iscsi:// URL, the others are local paths."""

    primary: str
    backup: str
    credentials: str | None = None
    mirror: str | None = None
    link: Mapping[str, Any] | None = None
    """Settings of the live link; see ``contract.LIVE_LINK_SETTINGS``."""


@dataclass(frozen=True, slots=True)
class CreatedVolume:
    """A new volume. *storage_object* is None if rtslib was not there to make it."""

    name: str
    size: int
    block_size: int
    storage_object: Any | None


def create(
    client: ServiceClient, storage_object_class: Any | None, name: str, settings: VolumeSettings
) -> CreatedVolume:
    """Define the volume, then make its backstore; if LIO refuses, the definition goes again.

    Raises:
        RestoreError: The service refused or does not answer; nothing was changed.
        BackstoreError: LIO refused; the error says whether the definition could be removed.
    """
    size = client.create_volume(
        name,
        primary=settings.primary,
        backup=settings.backup,
        credentials=settings.credentials,
        mirror=settings.mirror,
        link=settings.link,
    )
    block_size = int(client.status(name).get("block_size", lio.BLOCK_SIZE_DEFAULT))
    if storage_object_class is None:
        return CreatedVolume(name, size, block_size, None)
    try:
        made = lio.create_backstore(storage_object_class, name, size, block_size)
    except BackstoreError as error:
        raise replace(error, outcome=_roll_back(client, name)) from error
    return CreatedVolume(name, size, block_size, made)


def _roll_back(client: ServiceClient, name: str) -> str:
    try:
        client.delete_volume(name)
    except RestoreError as error:
        reason = str(error).rstrip(".")
        return f"The definition stays ({reason}); remove it with: tcmu-restore delete {name}"
    return (
        "The definition was removed again; nothing was changed. The log of tcmu-runner says more."
    )
