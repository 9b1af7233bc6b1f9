"""Which exported snapshots a volume is offered, and why one is not to be used. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from .shipped_image import FoundImage

OFFERS_MAX = 8
"""Offers a volume lists; the newest."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A snapshot of the volume's backup that is here. *problem* says why not to use it, or is
    empty."""

    image: FoundImage
    problem: str

    @property
    def taken(self) -> str:
        """When its export began, ISO 8601."""
        return self.image.taken.isoformat(timespec="seconds")


def offers_for(
    images: Iterable[FoundImage], *, backup_identity: str, size: int, since: datetime | None
) -> list[Offer]:
    """Return what there is of this volume, the newest first; others' snapshots are not offered.

    *since* is when a snapshot was prepared last: what was exported before may be older than what
    hosts wrote until then, and nobody could tell afterwards.
    """
    ours = [image for image in images if image.backup_identity == backup_identity]
    ours.sort(key=lambda image: (image.taken, image.path), reverse=True)
    return [Offer(image, _problem(image, size, since)) for image in ours[:OFFERS_MAX]]


def _problem(image: FoundImage, size: int, since: datetime | None) -> str:
    if image.size != size:
        return f"it has {image.size} bytes where {size} are needed"
    if since is not None and image.taken < since:
        when = since.isoformat(timespec="seconds")
        return f"it may be older than what was written until prepare-snapshot at {when}"
    return ""
