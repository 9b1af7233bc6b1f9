"""Which provider takes a snapshot: the first that fits what backs the origin, or the one named."""

from __future__ import annotations

from typing import Final

from ..errors import BadSettingError
from .backing import Backing
from .command import Run
from .errors import NoProviderError
from .lvm_provider import ClassicProvider, ThinProvider
from .provider import SnapshotProvider
from .reflink import ReflinkProvider

PROVIDERS: Final[tuple[type[SnapshotProvider], ...]] = (
    ThinProvider,
    ClassicProvider,
    ReflinkProvider,
)

PROVIDER_NAMES: Final = tuple(cls.name for cls in PROVIDERS)


def provider_named(name: str, run: Run) -> SnapshotProvider:
    """Return the provider called *name*. Raises BadSettingError."""
    for cls in PROVIDERS:
        if cls.name == name:
            return cls(run)
    raise BadSettingError("provider", name, f"there are only {', '.join(PROVIDER_NAMES)}")


def choose_provider(
    backing: Backing, run: Run, *, name: str | None, size: int | None
) -> SnapshotProvider:
    """Return who takes a snapshot of *backing*; *name* and *size* (bytes) are the admin's wish.

    Raises:
        NoProviderError: none can, or not the one named. BadSettingError: the wish makes no sense.
    """
    wanted = [provider_named(name, run)] if name else [cls(run) for cls in PROVIDERS]
    fitting = [provider for provider in wanted if provider.fits(backing)]
    if size is not None and fitting and not any(found.takes_size for found in fitting):
        reason = f"a snapshot of the kind {fitting[0].name} has no area of its own"
        raise BadSettingError("size", str(size), reason)
    if size is not None and name is None:
        fitting = [found for found in fitting if found.takes_size]
    if not fitting:
        raise NoProviderError(backing.origin, _reason(backing, name))
    return fitting[0]


def _reason(backing: Backing, name: str | None) -> str:
    if name:
        return f"the provider {name} does not fit what it lies on, {backing.path}"
    if backing.lv is not None:
        return f"{backing.path} is itself a snapshot"
    return f"{backing.path} is neither a logical volume of LVM nor a file"
