"""rtslib's object tree in memory: as much of it as the package uses, with rtslib's own names.

``dump`` has the form of the real one; the lab has the real one.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

NAMES = {"user": "user_0", "block": "iblock_0", "fileio": "fileio_0"}


class FakeObject:
    """A storage object."""

    def __init__(self, kernel: FakeKernel, plugin: str, parameters: dict[str, Any]) -> None:
        if plugin in kernel.refuse:
            raise OSError(kernel.refuse[plugin])
        self.kernel, self.plugin = kernel, plugin
        self.name = parameters["name"]
        self.parameters = parameters
        self.attributes: dict[str, Any] = {}
        self.wwn = parameters.get("wwn", "made-up")
        self.size = parameters.get("size", 0)
        kernel.objects.append(self)
        kernel.log.append(f"create {plugin}/{self.name}")
        kernel.step()

    @property
    def config(self) -> Any:
        return self.parameters.get("config")

    def get_attribute(self, key: str) -> Any:
        return self.attributes.get(key, "")

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value
        self.kernel.log.append(f"{self.name} {key}={value}")
        self.kernel.step()

    def delete(self) -> None:
        for group in self.kernel.groups:
            for lun in list(group.luns):
                if lun.storage_object is self:
                    lun.delete()
        self.kernel.objects.remove(self)
        self.kernel.log.append(f"delete {self.plugin}/{self.name}")
        if self.plugin == "user":
            self.kernel.closed()
        self.kernel.step()

    def dump(self) -> dict[str, Any]:
        return {"plugin": self.plugin, "attributes": dict(self.attributes), **self.parameters}


class FakeLun:
    def __init__(self, group: FakeGroup, index: int, storage_object: Any, alias: Any) -> None:
        self.group, self.lun, self.storage_object = group, index, storage_object
        self.alias = alias
        group.luns.append(self)
        group.kernel.log.append(f"lun {index} {storage_object.plugin}")
        group.kernel.step()

    def delete(self) -> None:
        for acl in self.group.node_acls:
            acl.mapped_luns[:] = [item for item in acl.mapped_luns if item.lun is not self]
        self.group.luns.remove(self)


class FakeGroup:
    def __init__(self, kernel: FakeKernel, wwn: str, tag: int, nodes: tuple[str, ...]) -> None:
        fabric = SimpleNamespace(name="iscsi")
        self.kernel, self.tag = kernel, tag
        self.parent_target = SimpleNamespace(wwn=wwn, fabric_module=fabric)
        self.luns: list[FakeLun] = []
        self.node_acls = [SimpleNamespace(node_wwn=node, mapped_luns=[]) for node in nodes]
        self._is_enabled = True

    @property
    def enable(self) -> bool:
        return self._is_enabled

    @enable.setter
    def enable(self, wanted: bool) -> None:
        self._is_enabled = wanted
        self.kernel.log.append(f"group {self.tag} {'on' if wanted else 'off'}")
        self.kernel.step()

    def dump(self) -> dict[str, Any]:
        return {
            "tag": self.tag,
            "enable": self.enable,
            "luns": [
                {
                    "index": lun.lun,
                    "alias": lun.alias,
                    "storage_object": f"/backstores/{lun.storage_object.plugin}"
                    f"/{lun.storage_object.name}",
                }
                for lun in self.luns
            ],
            "node_acls": [
                {
                    "node_wwn": acl.node_wwn,
                    "mapped_luns": [
                        {
                            "index": item.mapped_lun,
                            "tpg_lun": item.lun.lun,
                            "write_protect": item.write_protect,
                            "alias": item.alias,
                        }
                        for item in acl.mapped_luns
                    ],
                }
                for acl in self.node_acls
            ],
        }


class FakeKernel:
    """What configfs holds. *steps_left*: the process is killed after so many changes."""

    def __init__(self) -> None:
        self.objects: list[FakeObject] = []
        self.groups: list[FakeGroup] = []
        self.refuse: dict[str, str] = {}
        self.log: list[str] = []
        self.steps_left: int | None = None
        self.closed: Any = lambda: None

    def step(self) -> None:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise KeyboardInterrupt

    def dump(self) -> dict[str, Any]:
        wwns = list(dict.fromkeys(group.parent_target.wwn for group in self.groups))
        return {
            "storage_objects": [item.dump() for item in self.objects],
            "targets": [
                {
                    "fabric": "iscsi",
                    "wwn": wwn,
                    "tpgs": [g.dump() for g in self.groups if g.parent_target.wwn == wwn],
                }
                for wwn in wwns
            ],
        }

    def add_group(self, wwn: str, tag: int, *nodes: str) -> FakeGroup:
        self.groups.append(FakeGroup(self, wwn, tag, nodes))
        return self.groups[-1]

    def module(self) -> ModuleType:
        """Return what stands for ``import rtslib``."""
        kernel = self

        class Root:
            storage_objects = property(lambda _: list(kernel.objects))
            tpgs = property(lambda _: list(kernel.groups))

            def dump(self) -> dict[str, Any]:
                return kernel.dump()

        def make(plugin: str) -> Any:
            return lambda **parameters: FakeObject(kernel, plugin, parameters)

        def map_lun(acl: Any, index: int, lun: Any, protect: Any, alias: Any) -> None:
            item = SimpleNamespace(
                mapped_lun=index, lun=lun, write_protect=protect or False, alias=alias
            )
            acl.mapped_luns.append(item)

        module = ModuleType("rtslib")
        vars(module).update(
            RTSRoot=Root,
            LUN=FakeLun,
            MappedLUN=map_lun,
            tcm=SimpleNamespace(so_mapping={name: make(name) for name in NAMES}),
        )
        return module
