"""CHAP secrets, from a TOML file that only its owner can read.

The file holds ``user`` and ``password``, and for mutual CHAP ``target_user`` and
``target_password``. Secrets never appear in a message, a repr or a log line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..errors import BadDefinitionError
from .private_file import parse_toml, read_private

SECRET_LENGTH_MAX: Final = 255
"""Bytes. Source: libiscsi, MAX_STRING_SIZE."""

FILE_LENGTH_MAX: Final = 8192
"""Bytes; four short strings fit many times."""

_KEYS: Final = ("user", "password", "target_user", "target_password")


@dataclass(frozen=True, slots=True)
class Credentials:
    """CHAP names and secrets. ``target_*`` are both set (mutual CHAP) or both None."""

    user: str
    password: str = field(repr=False)
    target_user: str | None = None
    target_password: str | None = field(default=None, repr=False)


def load_credentials(path: str | os.PathLike[str]) -> Credentials:
    """Read a credentials file.

    Raises:
        BadDefinitionError: it is missing, readable by others than its owner, owned by neither root
            nor this process's user, or does not hold what it should.
    """
    path = Path(path)
    try:
        return _parse(path, read_private(path, FILE_LENGTH_MAX))
    except OSError as error:
        raise BadDefinitionError(str(path), error.strerror or str(error)) from error


def _parse(path: Path, content: bytes) -> Credentials:
    try:
        table = parse_toml(content)
    except ValueError:
        # the original error may quote the line, and the line may hold the secret
        raise BadDefinitionError(str(path), "it is not TOML in UTF-8") from None
    if set(table) - set(_KEYS):  # not repeated: it may be a secret in the wrong place
        raise BadDefinitionError(str(path), "it has an unknown key")
    values = {key: _secret(path, key, table[key]) for key in _KEYS if key in table}
    for key in ("user", "password"):
        if key not in values:
            raise BadDefinitionError(str(path), f"{key!r} is missing")
    if ("target_user" in values) != ("target_password" in values):
        raise BadDefinitionError(str(path), "'target_user' and 'target_password' go together")
    return Credentials(**values)


def _secret(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadDefinitionError(str(path), f"{key!r} is not a text")
    if len(value.encode("utf-8")) > SECRET_LENGTH_MAX:
        raise BadDefinitionError(str(path), f"{key!r} is longer than {SECRET_LENGTH_MAX} bytes")
    if "\0" in value:
        raise BadDefinitionError(str(path), f"{key!r} holds a NUL character")
    return value
