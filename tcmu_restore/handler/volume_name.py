"""The config string of a backstore, which is the volume's name."""

from __future__ import annotations

from ..errors import BadNameError
from ..options import SUBTYPE, VOLUME_NAME, VOLUME_NAME_LENGTH_MAX


def volume_name(config: str) -> str:
    """Return NAME of ``restore/NAME[;tcmur_...]``.

    tcmu-runner strips its own options behind the semicolon before open, but not before
    check_config (main.c:923-961).

    Raises:
        BadNameError: anything else.
    """
    subtype, _, rest = config.partition("/")
    name = rest.partition(";")[0]
    if subtype != SUBTYPE or not VOLUME_NAME.fullmatch(name):
        raise BadNameError(name or config, VOLUME_NAME_LENGTH_MAX)
    return name
