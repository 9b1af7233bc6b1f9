"""Exceptions as D-Bus errors: the one table, and its inverse for the clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from .. import errors
from ..errors import RestoreError
from .contract import ERROR_PREFIX, INTERNAL_ERROR


def _classes(base: type[RestoreError]) -> Iterator[type[RestoreError]]:
    yield base
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _classes(child)


def _name(cls: type[RestoreError]) -> str:
    return ERROR_PREFIX + cls.__name__.removesuffix("Error")


ERROR_NAMES: Final[Mapping[type[RestoreError], str]] = {
    cls: _name(cls) for cls in _classes(RestoreError)
}
"""Every class of ``tcmu_restore.errors`` and its D-Bus name; the message is ``str()`` of the error.
A class of another module goes by its nearest base here."""

_CLASSES: Final = {name: cls for cls, name in ERROR_NAMES.items()}
assert len(_CLASSES) == len(ERROR_NAMES), "two error classes share a D-Bus name"


def encode_error(error: Exception) -> tuple[str, str]:
    """Return the D-Bus error name and the sentence for *error*.

    What is not of our hierarchy is a mistake of ours: its text is for the log, not for the caller.
    """
    for cls in type(error).__mro__:
        if cls in ERROR_NAMES:
            return ERROR_NAMES[cls], str(error)
    kind = type(error).__name__
    return INTERNAL_ERROR, f"Something went wrong inside the service ({kind}); its log says more."


def error_class(name: str) -> type[RestoreError] | None:
    """Return the class behind a D-Bus error name, or None if the name is not one of ours."""
    return _CLASSES.get(name)
