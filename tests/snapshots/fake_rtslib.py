"""rtslib in memory: storage objects, iSCSI targets and a saved configuration, no kernel.

What it does in several steps the kernel does in several steps too: a power cut may fall between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

from tcmu_restore.units import MiB


class FakeLibError(Exception):
    """Stands for RTSLibError, of which there may be two classes."""


class FakeStorageObject:
    alua_tpgs: tuple[Any, ...] = ()

    def __init__(self, lio: FakeRtslib, plugin: str, name: str, **given: Any) -> None:
        if (plugin, name) in lio.objects:
            raise FakeLibError(f"This StorageObject {name} already exists in configFS")
        self.lio, self.plugin, self.name = lio, plugin, name
        self.udev_path, self.size = given["path"], given["size"]
        self.readonly = given.get("readonly", False)
        self.attributes = {"block_size": "512"}
        self._wwn, self._is_configured = "", False
        lio.step()
        lio.objects[plugin, name] = self
        lio.step()
        self._is_configured = True
        lio.step()
        self._wwn = given["wwn"]

    @property
    def wwn(self) -> str:
        if not self._is_configured:
            raise FakeLibError("Cannot read a T10 WWN Unit Serial from an unconfigured object")
        return self._wwn

    def list_parameters(self, writable: Any = None) -> list[str]:
        del writable
        return []

    list_attributes = list_parameters

    def is_configured(self) -> bool:
        return self._is_configured

    def get_attribute(self, name: str) -> str:
        return self.attributes[name]

    def set_attribute(self, name: str, value: Any) -> None:
        self.attributes[name] = str(value)

    @property
    def attached_luns(self) -> Iterator[Any]:
        for target in self.lio.target_map.values():
            for group in target.tpgs:
                for lun in group.luns:
                    if lun.storage_object is self:
                        yield lun

    def delete(self) -> None:
        self.lio.step()
        assert not list(self.attached_luns), "the LUN goes first"
        del self.lio.objects[self.plugin, self.name]


class FakeGroup:
    def __init__(self, target: FakeTarget, tag: int) -> None:
        self.parent_target, self.tag, self._enable = target, tag, False
        self.document: dict[str, Any] = {
            "attributes": {},
            "parameters": {},
            "luns": [],
            "portals": [],
            "node_acls": [],
        }

    @property
    def enable(self) -> bool:
        return self._enable

    @enable.setter
    def enable(self, value: bool) -> None:
        self.parent_target.lio.step()
        self._enable = value

    @property
    def luns(self) -> list[Any]:
        found = []
        for each in self.document["luns"]:
            _, _, plugin, name = each["storage_object"].split("/")
            storage_object = self.parent_target.lio.objects[plugin, name]
            found.append(
                SimpleNamespace(lun=each["index"], storage_object=storage_object, parent_tpg=self)
            )
        return found

    @property
    def network_portals(self) -> list[Any]:
        return [SimpleNamespace(**each) for each in self.document["portals"]]

    def dump(self) -> dict[str, Any]:
        return deepcopy(self.document) | {"tag": self.tag, "enable": self._enable}


class FakeTarget:
    def __init__(self, lio: FakeRtslib, iqn: str) -> None:
        self.lio, self.wwn, self.tpgs = lio, iqn, list[FakeGroup]()
        self.fabric_module = SimpleNamespace(name="iscsi")
        lio.step()
        lio.target_map[iqn] = self

    def delete(self) -> None:
        self.lio.step()
        del self.lio.target_map[self.wwn]


class FakeRtslib:
    """The module. ``refuse`` makes TPG.setup complain; ``step`` is called at each change."""

    def __init__(self, step: Callable[[], None]) -> None:
        self.step = step
        self.objects: dict[tuple[str, str], FakeStorageObject] = {}
        self.target_map: dict[str, FakeTarget] = {}
        self.saved: dict[str, Any] = {}
        self.refuse = ""
        self.TPG = SimpleNamespace(setup=self._setup)

    def RTSRoot(self) -> Any:  # noqa: N802 - rtslib's names
        return SimpleNamespace(
            storage_objects=list(self.objects.values()),
            targets=list(self.target_map.values()),
            save_to_file=self._save,
        )

    def FabricModule(self, name: str) -> Any:  # noqa: N802
        assert name == "iscsi"
        return SimpleNamespace(name=name, to_normalized_wwn=_normalize)

    def Target(self, fabric: Any, iqn: str) -> FakeTarget:  # noqa: N802
        assert fabric.name == "iscsi"
        return self.target_map.get(iqn) or FakeTarget(self, iqn)

    def BlockStorageObject(  # noqa: N802
        self, name: str, path: str, wwn: str, readonly: bool
    ) -> FakeStorageObject:
        given = {"path": path, "size": 64 * MiB, "wwn": wwn, "readonly": readonly}
        return FakeStorageObject(self, "block", name, **given)

    def FileIOStorageObject(  # noqa: N802
        self, name: str, path: str, size: int, wwn: str
    ) -> FakeStorageObject:
        return FakeStorageObject(self, "fileio", name, path=path, size=size, wwn=wwn)

    def _setup(
        self, target: FakeTarget, document: dict[str, Any], complain: Callable[[str], None]
    ) -> None:
        group = FakeGroup(target, document["tag"])
        target.tpgs.append(group)
        for key in ("attributes", "parameters", "luns", "portals", "node_acls"):
            self.step()
            group.document[key] = document[key]
        if self.refuse:
            complain(self.refuse)
        group.enable = document["enable"]
        group.document |= {key: document[key] for key in document if key.startswith("chap_")}

    def _save(self, so_path: str) -> None:
        self.step()
        _, _, plugin, name = so_path.split("/")
        found = self.objects.get((plugin, name))
        if found is None:
            self.saved.pop(so_path, None)
            return
        target = next((lun.parent_tpg.parent_target for lun in found.attached_luns), None)
        self.saved[so_path] = (found, target)
        self.step()

    def reboot(self) -> None:
        """Restore what was saved; what was not is gone."""
        self.objects = {(found.plugin, found.name): found for found, _ in self.saved.values()}
        self.target_map = {
            target.wwn: target for _, target in self.saved.values() if target is not None
        }


def _normalize(iqn: str) -> tuple[str, str]:
    if not iqn.lower().startswith("iqn.2") or "_" in iqn:
        raise FakeLibError(f"WWN not valid as: iqn: {iqn}")
    return iqn.lower(), "iqn"
