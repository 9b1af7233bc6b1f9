"""LIO in memory, with rtslib's storage object class in front of it."""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """Stands for RTSLibError, of which there may be two classes."""


class FakeLio:
    """Storage objects by name. ``refuse`` and ``refuse_attribute`` make the kernel say no."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.refuse = ""
        self.refuse_attribute = ""
        lio = self

        class FakeStorageObject:
            plugin = "user"
            status = "deactivated"
            version = "1"
            alua_tpgs: tuple[Any, ...] = ()

            def __init__(self, name: str, **parameters: Any) -> None:
                if lio.refuse:
                    raise RefusedError(lio.refuse)
                self.name = name
                self.parameters = parameters
                self.config = parameters["config"]
                self.size = parameters["size"]
                self.attributes: dict[str, Any] = {}
                lio.objects[name] = self

            def set_attribute(self, name: str, value: Any) -> None:
                if lio.refuse_attribute:
                    raise RefusedError(lio.refuse_attribute)
                self.attributes[name] = value

            def delete(self, save: Any = None) -> None:
                del lio.objects[self.name]

            def list_parameters(self, writable: Any = None) -> list[str]:
                return []

            def list_attributes(self, writable: Any = None) -> list[str]:
                return []

        self.storage_object_class = FakeStorageObject
