"""The LIO side of a volume: its user-backed storage object, made with rtslib.

The storage object's class is an argument: within targetcli it must be the class that the loaded
targetcli uses, because a distribution may ship rtslib twice (``rtslib`` and ``rtslib_fb``), with
two distinct caches. targetcli itself is never started: an open shell of it holds a lock.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Final

from ..installed_rtslib import load_rtslib
from ..options import SUBTYPE
from ..units import MiB
from .errors import BackstoreError

TRANSFER_MAX: Final = 4 * MiB
"""Largest command; the kernel's default of 64 KiB costs a round trip for every 128 sectors."""

DATA_AREA_MB: Final = 256
"""Buffer shared with the kernel: 64 of the largest commands. The kernel's default, 1 GiB, lets two
volumes reach the module's limit of 2 GiB for all."""

BLOCK_SIZE_DEFAULT: Final = 512

COMMAND_TIMEOUT: Final = "cmd_time_out"
"""Set to 0 = never, and only settable before the first LUN: when it expires, the kernel answers the
initiator while the handler still owns the command, and a late write could replace a newer one.
The handler has its own, shorter deadline."""


def load_storage_object_class() -> Any | None:
    """Return rtslib's UserBackedStorageObject, or None if rtslib is not installed."""
    return getattr(load_rtslib(), "UserBackedStorageObject", None)


def load_rtslib_of(root_class: type) -> ModuleType:
    """Return the rtslib that *root_class*, its RTSRoot, comes from: that of a loaded targetcli."""
    return importlib.import_module(root_class.__module__.partition(".")[0])


def max_sectors(block_size: int) -> int:
    """Return ``hw_max_sectors``, which counts blocks of the device's own size."""
    return TRANSFER_MAX // block_size


def control_string(block_size: int) -> str:
    """Return the ``control`` parameter of rtslib and targetcli."""
    control = f"max_data_area_mb={DATA_AREA_MB}"
    return control if block_size == BLOCK_SIZE_DEFAULT else f"{control},hw_block_size={block_size}"


def config_string(name: str) -> str:
    """Return the volume's config string: the handler's name and the volume's."""
    return f"{SUBTYPE}/{name}"


def create_backstore(
    storage_object_class: Any, name: str, size: int, block_size: int = BLOCK_SIZE_DEFAULT
) -> Any:
    """Create the storage object of a defined volume and return it; on failure nothing is left.

    Args:
        storage_object_class: rtslib's UserBackedStorageObject.
        name: The volume's, and the storage object's.
        size: Bytes.
        block_size: Bytes; must be the backup's.

    Raises:
        BackstoreError: The kernel, rtslib or the handler's open refused.
    """
    try:
        storage_object = storage_object_class(
            name,
            config=config_string(name),
            size=size,
            hw_max_sectors=max_sectors(block_size),
            control=control_string(block_size),
        )
        disable_command_timeout(storage_object)
    except BackstoreError:
        raise
    except Exception as error:  # rtslib raises its own classes, of which there are two copies
        raise BackstoreError(name, str(error).rstrip("."), "Nothing was changed.") from error
    return storage_object


def disable_command_timeout(storage_object: Any) -> None:
    """Set the kernel's command timeout to never; deletes the storage object if that fails.

    Must be called before a LUN is mapped.

    Raises:
        BackstoreError: The attribute cannot be set.
    """
    try:
        storage_object.set_attribute(COMMAND_TIMEOUT, 0)
    except Exception as error:  # see create_backstore
        reason = f"{COMMAND_TIMEOUT} cannot be set: {error}".rstrip(".")
        name = storage_object.name
        storage_object.delete()
        raise BackstoreError(name, reason, "The storage object was removed again.") from error


def export_lines(name: str) -> list[str]:
    """Return the two targetcli lines that export the backstore and keep the configuration."""
    return [
        f"targetcli /iscsi/IQN/tpg1/luns create /backstores/user:{SUBTYPE}/{name}",
        "targetcli saveconfig",
    ]


def create_lines(name: str, size: int, block_size: int) -> list[str]:
    """Return the targetcli lines that make the backstore where rtslib is not importable."""
    node = f"/backstores/user:{SUBTYPE}"
    limits = f"hw_max_sectors={max_sectors(block_size)} control={control_string(block_size)}"
    return [
        f"targetcli {node} create name={name} size={size} cfgstring={name} {limits}",
        f"targetcli {node}/{name} set attribute {COMMAND_TIMEOUT}=0",
    ]
