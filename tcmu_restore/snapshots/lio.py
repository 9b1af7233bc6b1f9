"""The LIO side: the origin, and the target, LUN and storage object of a snapshot.

The rtslib module is an argument: within targetcli it must be the copy that the loaded targetcli
uses, because a distribution may ship two with distinct caches. targetcli itself is never started:
an open shell of it holds a lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ..errors import BadSettingError, RestoreError
from .errors import (
    OriginNotExportedError,
    SnapshotCommandError,
    UnknownOriginError,
)
from .export_plan import LUN, plan_group
from .identity import origin_of_serial
from .origin import PLUGINS, Origin, OriginGroup, Stranger
from .portal import Portal, listening_portal, parse_portal
from .record import Record

_IQN_LENGTH_MAX: Final = 223
"""Characters. Source: RFC 7143 section 4.2.7.1."""


class Lio:
    """LIO as snapshots need it. Every method raises SnapshotCommandError when LIO refuses."""

    def __init__(self, rtslib: Any) -> None:
        self._rtslib = rtslib

    # --- the origin -----------------------------------------------------------------------

    def origin(self, name: str) -> Origin:
        """Return the storage object PLUGIN/NAME. Raises UnknownOriginError."""
        with _refusals("Looking up the origin"):
            found = self._find(name)
            if found is None or found.plugin not in PLUGINS:
                raise UnknownOriginError(name)
            block_size = int(found.get_attribute("block_size"))
            return Origin(name, found.udev_path, int(found.size), block_size, found.wwn)

    def origin_group(self, origin: str, portal: Portal | None = None) -> OriginGroup:
        """Return the iSCSI group that exports *origin*; of several, one that listens at *portal*.

        Raises:
            UnknownOriginError, OriginNotExportedError: nothing was changed.
        """
        with _refusals("Looking up the origin"):
            found = self._find(origin)
            if found is None:
                raise UnknownOriginError(origin)
            groups = [
                OriginGroup(lun.parent_tpg.parent_target.wwn, lun.parent_tpg.dump(), lun.lun)
                for lun in found.attached_luns
                if lun.parent_tpg.parent_target.fabric_module.name == "iscsi"
            ]
        groups = [group for group in groups if group.portals]
        if not groups:
            raise OriginNotExportedError(origin)
        return min(groups, key=lambda group: (portal not in group.portals, group.target))

    # --- targets ----------------------------------------------------------------------------

    def normalize_target(self, iqn: str) -> str:
        """Return *iqn* as LIO writes it. Raises BadSettingError: it is none."""
        with _refusals("Looking up iSCSI"):
            iscsi = self._rtslib.FabricModule("iscsi")
        try:
            normal = str(iscsi.to_normalized_wwn(iqn)[0])
        except Exception as error:  # rtslib raises its own classes, of which there are two copies
            reason = "it is not an IQN that LIO takes, iqn.YEAR-MONTH.DOMAIN:NAME"
            raise BadSettingError("target", iqn[:_IQN_LENGTH_MAX], reason) from error
        if len(normal) > _IQN_LENGTH_MAX or "/" in normal:
            reason = f"an IQN has at most {_IQN_LENGTH_MAX} characters and no slash"
            raise BadSettingError("target", normal[:_IQN_LENGTH_MAX], reason)
        return normal

    def has_target(self, iqn: str) -> bool:
        """Return whether there is an iSCSI target of that name."""
        with _refusals("Looking up targets"):
            return any(target.wwn == iqn for target in self._targets())

    def is_exported(self, record: Record) -> bool:
        """Return whether initiators can log in to the snapshot's target and see its LUN."""
        with _refusals("Looking up targets"):
            for target in self._targets():
                if target.wwn == record.target:
                    return any(_serves(group, record) for group in target.tpgs)
        return False

    # --- the snapshot -----------------------------------------------------------------------

    def export(self, record: Record, plugin: str, origin: OriginGroup) -> None:
        """Export the snapshot like its origin, and save; what is half made is made anew."""
        self._withdraw(record)
        with _refusals("Making the LUN of the snapshot"):
            self._make_storage_object(record, plugin)
            target = self._rtslib.Target(self._rtslib.FabricModule("iscsi"), record.target)
            portals = self._listening_portals(record)
            path = _path(record, plugin)
            planned = plan_group(origin.group, origin.lun, path, portals)
            complaints: list[str] = []
            self._rtslib.TPG.setup(target, planned, complaints.append)
            if complaints:
                raise SnapshotCommandError("Making the LUN of the snapshot", complaints[0])
            for group in target.tpgs:
                group.enable = True
        self.save(record, plugin)

    def withdraw(self, record: Record, plugin: str) -> None:
        """Take the LUN, its target and its storage object away, if they are there, and save."""
        self._withdraw(record)
        self.save(record, plugin)

    def save(self, record: Record, plugin: str) -> None:
        """Save the snapshot's storage object and target, or that they are gone, and nothing else:
        what LIO could not restore at boot must stay in the saved configuration."""
        with _refusals("Saving LIO's configuration"):
            self._rtslib.RTSRoot().save_to_file(so_path=_path(record, plugin))

    def strangers(self, known: Collection[str]) -> list[Stranger]:
        """Return the storage objects of snapshots whose serial number is not *known*."""
        with _refusals("Looking up storage objects"):
            return [
                _stranger(each)
                for each in self._rtslib.RTSRoot().storage_objects
                if _has_serial(each)
                and origin_of_serial(each.wwn) is not None
                and each.wwn not in known
            ]

    def name_of_serial(self, serial: str) -> str | None:
        """Return PLUGIN/NAME of the storage object with that serial number."""
        with _refusals("Looking up storage objects"):
            for each in self._rtslib.RTSRoot().storage_objects:
                if _has_serial(each) and each.wwn == serial:
                    return f"{each.plugin}/{each.name}"
        return None

    def _withdraw(self, record: Record) -> None:
        with _refusals("Taking the LUN of the snapshot away"):
            for target in list(self._targets()):
                if target.wwn == record.target:
                    _check_own(target, record)
                    target.delete()
            for each in list(self._rtslib.RTSRoot().storage_objects):
                if _is_own(each, record):
                    each.delete()

    def _make_storage_object(self, record: Record, plugin: str) -> None:
        name, wwn = record.storage_object, record.serial
        if plugin == "block":
            self._rtslib.BlockStorageObject(name, record.device, wwn=wwn, readonly=True)
            return
        made = self._rtslib.FileIOStorageObject(name, record.device, size=record.size, wwn=wwn)
        if int(made.get_attribute("block_size")) != record.block_size:
            made.set_attribute("block_size", record.block_size)

    def _listening_portals(self, record: Record) -> Iterable[Portal]:
        existing = {
            Portal(portal.ip_address, int(portal.port))
            for each in self._targets()
            for group in each.tpgs
            for portal in group.network_portals
        }
        wanted = (listening_portal(parse_portal(text), existing) for text in record.portals)
        return dict.fromkeys(wanted)

    def _find(self, name: str) -> Any | None:
        for each in self._rtslib.RTSRoot().storage_objects:
            if f"{each.plugin}/{each.name}" == name:
                return each
        return None

    def _targets(self) -> Iterator[Any]:
        for target in self._rtslib.RTSRoot().targets:
            if target.fabric_module.name == "iscsi":
                yield target


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    try:
        yield
    except RestoreError:
        raise
    except Exception as error:  # rtslib raises its own classes, of which there are two copies
        raise SnapshotCommandError(what, str(error).rstrip(".")) from error


def _path(record: Record, plugin: str) -> str:
    return f"/backstores/{plugin}/{record.storage_object}"


def _has_serial(storage_object: Any) -> bool:
    return storage_object.plugin in PLUGINS and bool(storage_object.is_configured())


def _is_own(storage_object: Any, record: Record) -> bool:
    """Whether it is the snapshot's, perhaps half made: its serial number is set last."""
    if storage_object.name != record.storage_object or storage_object.plugin not in PLUGINS:
        return False
    return not storage_object.is_configured() or storage_object.wwn in ("", record.serial)


def _check_own(target: Any, record: Record) -> None:
    """Raise if somebody has put another LUN into the snapshot's target."""
    for group in target.tpgs:
        for lun in group.luns:
            if lun.storage_object.name != record.storage_object:
                reason = f"{target.wwn} has LUNs of others now; delete them or the target first"
                raise SnapshotCommandError("Removing the target of the snapshot", reason)


def _serves(group: Any, record: Record) -> bool:
    if not group.enable or not any(True for _ in group.network_portals):
        return False
    return any(
        lun.lun == LUN and lun.storage_object.name == record.storage_object for lun in group.luns
    )


def _stranger(each: Any) -> Stranger:
    origin = Origin(each.name, each.udev_path, int(each.size), 0, each.wwn)
    for lun in each.attached_luns:
        group = lun.parent_tpg
        portals = tuple(f"{at.ip_address}:{at.port}" for at in group.network_portals)
        return Stranger(origin, each.plugin, str(group.parent_target.wwn), portals)
    return Stranger(origin, each.plugin)
