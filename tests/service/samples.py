"""One instance of every leaf class of ``tcmu_restore.errors``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from tcmu_restore import errors


def _leaves(base: type[errors.RestoreError]) -> Iterator[type[errors.RestoreError]]:
    children = [cls for cls in base.__subclasses__() if cls.__module__ == errors.__name__]
    if not children:
        yield base
    for child in children:
        yield from _leaves(child)


LEAF_CLASSES = list(_leaves(errors.RestoreError))


def sample(cls: type[errors.RestoreError]) -> errors.RestoreError:
    """Return an instance with plausible attributes."""
    values = {field.name: 1 if field.type == "int" else field.name for field in fields(cls)}
    return cls(**values)
