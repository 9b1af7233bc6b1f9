"""What a saved configuration says of a backstore, done with rtslib: the object, LUNs and ACLs.

rtslib itself restores all or nothing. *rtslib* is the module, an argument for the same reason as
the class in ``lio``. What is there already is left as it is, so each call may be repeated.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import RestoreError
from ..options import DEFINITION_DIR, SUBTYPE
from ..whole_file import write_whole
from .errors import LioError, SavedConfigError
from .saved_config import (
    Config,
    SavedLun,
    SavedVolume,
    extract,
    keep_skipped,
    read_config,
    save_file,
    saved_volumes,
    skipped_volumes,
)

_DEFAULT_GROUP = "default_tg_pt_gp"
"""The ALUA group that the kernel makes."""

_NOT_PARAMETERS = ("exists", "attributes", "plugin", "buffered_mode", "alua_tpgs")


def defined_volumes(definitions: Path = DEFINITION_DIR) -> list[str]:
    """Return the names of the defined volumes; for root, without the service."""
    return sorted(path.stem for path in definitions.glob("*.toml"))


def find_skipped(rtslib: ModuleType) -> list[str]:
    """Return the volumes that are saved, defined and not loaded.

    Raises:
        SavedConfigError: The saved configuration cannot be read.
    """
    current = rtslib.RTSRoot().dump()
    return skipped_volumes(current, read_config(save_file()), defined_volumes())


def loaded_volume(rtslib: ModuleType, name: str) -> SavedVolume | None:
    """Return the backstore of volume *name* as it is in the kernel, or None."""
    current = rtslib.RTSRoot().dump()
    found = saved_volumes(current).get(name)
    return None if found is None else extract(current, found)


def find_object(rtslib: ModuleType, name: str) -> Any:
    """Return the storage object of volume *name*. Raises LioError if it is not loaded."""
    config = f"{SUBTYPE}/{name}"
    for found in rtslib.RTSRoot().storage_objects:
        if found.plugin == "user" and found.config == config:
            return found
    raise LioError(f"volume {name!r}", "its backstore is not loaded")


def find_plain(rtslib: ModuleType, saved: Config) -> Any | None:
    """Return the storage object that has the plugin and the name of *saved*, or None."""
    for found in rtslib.RTSRoot().storage_objects:
        if (found.plugin, found.name) == (saved["plugin"], saved["name"]):
            return found
    return None


def has_registrations(storage_object: Any) -> bool:
    """Return whether an initiator has a persistent reservation or is registered for one.

    Source: Linux target_core_configfs.c, target_pr_res_pr_registered_i_pts_show.
    """
    path = Path(storage_object.path) / "pr" / "res_pr_registered_i_pts"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "iqn." in text or "naa." in text or "eui." in text


def create_object(rtslib: ModuleType, saved: Config) -> Any:
    """Make the storage object that *saved* describes, with its attributes.

    Raises:
        LioError: The kernel or the handler refused; nothing is left of it.
    """
    make = rtslib.tcm.so_mapping[saved["plugin"]]
    parameters = {key: value for key, value in saved.items() if key not in _NOT_PARAMETERS}
    try:
        made = make(**parameters)
    except Exception as error:  # rtslib raises its own classes, of which there are two copies
        raise LioError(saved["name"], _reason(error)) from error
    complete_object(rtslib, made, saved)
    return made


def complete_object(rtslib: ModuleType, made: Any, saved: Config) -> None:
    """Give a storage object the attributes and ALUA groups that *saved* has, as far as it can."""
    for key, value in sorted(saved.get("attributes", {}).items()):
        _try_attribute(made, key, value)
    for group in saved.get("alua_tpgs", ()):
        if group.get("name") != _DEFAULT_GROUP:
            _try_alua_group(rtslib, made, group)


def _try_alua_group(rtslib: ModuleType, storage_object: Any, group: Config) -> None:
    """Make an ALUA group as rtslib's own restore does."""
    alua = importlib.import_module(f"{rtslib.__name__}.alua")
    with suppress(Exception):
        alua.ALUATargetPortGroup.setup(storage_object, dict(group), lambda _: None)


def _try_attribute(storage_object: Any, key: str, value: object) -> None:
    """Set an attribute as rtslib's own restore does: one that cannot be set is passed over."""
    try:
        if str(storage_object.get_attribute(key)) != str(value):
            storage_object.set_attribute(key, value)
    except Exception:  # noqa: BLE001, S110 - the kernel refuses what its device cannot do
        pass


def map_luns(rtslib: ModuleType, luns: tuple[SavedLun, ...], storage_object: Any) -> list[str]:
    """Export *storage_object* as *luns* say; return a sentence for each that could not be."""
    problems = []
    for one in luns:
        where = f"LUN {one.lun['index']} of {one.wwn} group {one.tag}"
        try:
            _map_lun(rtslib, one, storage_object)
        except Exception as error:  # noqa: BLE001 - see create_object
            problems.append(f"{where} could not be made: {_reason(error)}.")
    return problems


def _map_lun(rtslib: ModuleType, one: SavedLun, storage_object: Any) -> None:
    group = find_group(rtslib, one)
    index = one.lun["index"]
    found = next((lun for lun in group.luns if lun.lun == index), None)
    if found is not None and found.storage_object != storage_object:
        raise LioError(storage_object.name, f"LUN {index} is {found.storage_object.name} now")
    lun = found or rtslib.LUN(group, index, storage_object, one.lun.get("alias"))
    if one.lun.get("alua_tg_pt_gp_name"):
        lun.alua_tg_pt_gp_name = one.lun["alua_tg_pt_gp_name"]
    for node, mapped in one.mapped:
        acl = next((acl for acl in group.node_acls if acl.node_wwn == node), None)
        if acl is None or any(item.mapped_lun == mapped["index"] for item in acl.mapped_luns):
            continue  # an ACL that was removed is not made again: it would let somebody in
        protect, alias = mapped.get("write_protect"), mapped.get("alias")
        rtslib.MappedLUN(acl, mapped["index"], lun, protect, alias)


def find_group(rtslib: ModuleType, one: SavedLun) -> Any:
    """Return the portal group that *one* belongs to. Raises LioError if it is not there."""
    for group in rtslib.RTSRoot().tpgs:
        target = group.parent_target
        if (target.fabric_module.name, target.wwn, group.tag) == (one.fabric, one.wwn, one.tag):
            return group
    raise LioError(one.wwn, f"the target or its group {one.tag} is not there")


def save(
    rtslib: ModuleType, amend: Callable[[Config], Config] = lambda config: config
) -> list[str]:
    """Save LIO's configuration, *amend*-ed, for the next boot; return the skipped volumes in it.

    Raises:
        SavedConfigError: The saved configuration cannot be read or written; it is as it was.
    """
    path = save_file()
    saved, current = read_config(path), rtslib.RTSRoot().dump()
    names = skipped_volumes(current, saved, defined_volumes())
    try:
        write_config(path, amend(keep_skipped(current, saved, names)))
    except OSError as error:
        raise SavedConfigError(str(path), str(error)) from error
    return names


def write_config(path: Path, config: Config) -> None:
    """Write a configuration for root only, whole or not at all.

    Raises:
        OSError: It could not be written; what was there is as it was.
    """
    write_whole(path, json.dumps(config, sort_keys=True, indent=2) + "\n")


@contextmanager
def lio_errors(what: str) -> Iterator[None]:
    """Turn what rtslib and the kernel raise within the block into LioError."""
    try:
        yield
    except RestoreError:
        raise
    except Exception as error:
        raise LioError(what, _reason(error)) from error


def _reason(error: Exception) -> str:
    return str(error).rstrip(".")
