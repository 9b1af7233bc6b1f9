"""LIO's configuration as rtslib dumps and saves it: where a volume's backstore and LUNs stand.

Pure, but for reading the files. A volume that cannot be opened at boot is skipped when the saved
configuration is restored, and whoever saves next would save a configuration without it:
``keep_skipped`` is for those, and ``find_volume`` finds what was lost that way in the older copies
that targetcli keeps.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..options import SUBTYPE
from .errors import SavedConfigError

Config = dict[str, Any]
"""What rtslib's ``dump`` returns, or a part of it."""

SAVE_FILES: Final = (
    Path("/etc/rtslib-fb-target/saveconfig.json"),  # Debian
    Path("/etc/target/saveconfig.json"),
)


@dataclass(frozen=True, slots=True)
class SavedLun:
    """One LUN: its portal group, and its mappings as (initiator's name, mapped LUN)."""

    fabric: str
    wwn: str
    tag: int
    lun: Config
    mapped: tuple[tuple[str, Config], ...]


@dataclass(frozen=True, slots=True)
class SavedVolume:
    """A storage object and all that refers to it."""

    storage_object: Config
    luns: tuple[SavedLun, ...]
    saved_in: Path | None = None


def save_file() -> Path:
    """Return where this host's rtslib saves its configuration."""
    return next((path for path in SAVE_FILES if path.parent.is_dir()), SAVE_FILES[0])


def read_config(path: Path) -> Config:
    """Read a saved configuration, or one of targetcli's compressed copies; empty if there is none.

    Raises:
        SavedConfigError: It cannot be read, or is something else.
    """
    try:
        raw = path.read_bytes()
        config = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, EOFError) as error:
        raise SavedConfigError(str(path), str(error)) from error
    if not isinstance(config, dict):
        raise SavedConfigError(str(path), "it is not a table")
    return config


def saved_volumes(config: Config) -> dict[str, Config]:
    """Return the storage objects of our handler in *config*, by the names of their volumes."""
    prefix = f"{SUBTYPE}/"
    return {
        str(item["config"]).removeprefix(prefix): item
        for item in config.get("storage_objects", ())
        if item.get("plugin") == "user" and str(item.get("config", "")).startswith(prefix)
    }


def extract(config: Config, storage_object: Config, saved_in: Path | None = None) -> SavedVolume:
    """Return *storage_object* of *config* with its LUNs and their mappings."""
    return SavedVolume(storage_object, tuple(_luns_of(config, storage_object)), saved_in)


def find_volume(name: str, path: Path) -> SavedVolume | None:
    """Look for the volume *name* in the saved configuration, then in targetcli's older copies.

    Raises:
        SavedConfigError: The saved configuration cannot be read; damaged copies are passed over.
    """
    found = _find_in(read_config(path), name, path)
    older = sorted((path.parent / "backup").glob("saveconfig-*json*"), reverse=True)
    for copy_path in older:
        if found is not None:
            break
        try:
            found = _find_in(read_config(copy_path), name, copy_path)
        except SavedConfigError:
            continue
    return found


def skipped_volumes(current: Config, saved: Config, defined: Iterable[str]) -> list[str]:
    """Return the volumes that are *defined* and *saved* but are not in the *current* LIO."""
    loaded = saved_volumes(current)
    names = set(defined)
    return sorted(name for name in saved_volumes(saved) if name in names and name not in loaded)


def keep_skipped(current: Config, saved: Config, names: Iterable[str]) -> Config:
    """Return *current* with the volumes *names* as *saved* has them.

    Their LUNs and mappings are kept where the portal group and the initiator still are, and the
    number has not been given to something else meanwhile.
    """
    kept = copy.deepcopy(current)
    known = saved_volumes(saved)
    for name in names:
        volume = extract(saved, known[name])
        kept.setdefault("storage_objects", []).append(copy.deepcopy(volume.storage_object))
        for one in volume.luns:
            _keep_lun(kept, one)
    return kept


def reference(storage_object: Config) -> str:
    """Return how a saved LUN names *storage_object*."""
    return f"/backstores/{storage_object['plugin']}/{storage_object['name']}"


def groups_of(config: Config) -> Iterator[tuple[Config, Config]]:
    """Yield every target of *config* with each of its portal groups."""
    for target in config.get("targets", ()):
        for group in target.get("tpgs", ()):
            yield target, group


def _find_in(config: Config, name: str, path: Path) -> SavedVolume | None:
    try:
        storage_object = saved_volumes(config).get(name)
        return None if storage_object is None else extract(config, storage_object, path)
    except (KeyError, TypeError, AttributeError) as error:
        raise SavedConfigError(str(path), "it is not a saved configuration") from error


def _luns_of(config: Config, storage_object: Config) -> Iterator[SavedLun]:
    wanted = reference(storage_object)
    for target, group in groups_of(config):
        for lun in group.get("luns", ()):
            if lun.get("storage_object") == wanted:
                mapped = tuple(_mappings(group, lun["index"]))
                yield SavedLun(target["fabric"], target["wwn"], group["tag"], lun, mapped)


def _mappings(group: Config, index: int) -> Iterator[tuple[str, Config]]:
    for acl in group.get("node_acls", ()):
        for mapped in acl.get("mapped_luns", ()):
            if mapped.get("tpg_lun") == index:
                yield acl["node_wwn"], mapped


def _keep_lun(config: Config, one: SavedLun) -> None:
    for target, group in groups_of(config):
        if target["wwn"] != one.wwn or group["tag"] != one.tag:
            continue
        luns = group.setdefault("luns", [])
        if any(lun["index"] == one.lun["index"] for lun in luns):
            return
        luns.append(dict(one.lun))
        mapped_of = {acl["node_wwn"]: acl for acl in group.get("node_acls", ())}
        for node, mapped in one.mapped:
            others = mapped_of.get(node, {}).setdefault("mapped_luns", [])
            if all(other["index"] != mapped["index"] for other in others):
                others.append(dict(mapped))
