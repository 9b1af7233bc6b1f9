"""What LIO knows of a volume: skipped at boot, there and not served, or being handed over.

Reads the saved configuration and configfs, not rtslib: a status must be quick, and harmless.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

from ..service.registry_seam import VolumeStatus
from .condition import is_open
from .errors import SavedConfigError
from .handover_plan import begun_handovers
from .saved_config import read_config, save_file, saved_volumes

CORE: Final = Path("/sys/kernel/config/target/core")


def with_lio(status: VolumeStatus, *, saved: Path | None = None, core: Path = CORE) -> VolumeStatus:
    """Return *status* with what is to be said of its backstore."""
    path = saved or save_file()
    if status["volume"] in begun_handovers():
        lio = {"state": "handover", "saved_in": str(path)}
        return cast(VolumeStatus, status | {"lio": lio})
    if is_open(status):
        return status
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
