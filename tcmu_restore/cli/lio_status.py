"""What LIO knows of a volume that is not being served: skipped at boot, or there and not served.

Reads the saved configuration and configfs, not rtslib: a status must be quick, and harmless.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

from ..service.registry_seam import VolumeStatus
from .condition import is_open
from .errors import SavedConfigError
from .saved_config import read_config, save_file, saved_volumes

CORE: Final = Path("/sys/kernel/config/target/core")


def with_lio(status: VolumeStatus, *, saved: Path | None = None, core: Path = CORE) -> VolumeStatus:
    """Return *status*, of a closed volume with what LIO has of it."""
    if is_open(status):
        return status
    path = saved or save_file()
    try:
        found = saved_volumes(read_config(path)).get(status["volume"])
    except (SavedConfigError, TypeError, AttributeError):
        return status  # not ours to report: who restores it will
    name = status["volume"] if found is None else str(found["name"])
    if any(core.glob(f"user_*/{name}")):
        lio = {"state": "unserved", "saved_in": str(path)}
    elif found is not None:
        lio = {"state": "skipped", "saved_in": str(path)}
    else:
        return status
    return cast(VolumeStatus, status | {"lio": lio})
