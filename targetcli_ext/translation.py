"""Errors of ours as errors of the shell: one sentence, the cause chained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tcmu_restore.errors import RestoreError


@contextmanager
def shell_errors(execution_error: type[Exception]) -> Iterator[None]:
    """Turn our errors within the block into *execution_error*, the loaded configshell's class."""
    try:
        yield
    except RestoreError as error:
        raise execution_error(str(error)) from error
