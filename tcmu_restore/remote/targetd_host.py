"""A backup host that runs targetd: its ``vol_copy`` and ``export_create``.

What its API can do is less than our own command there (targetd 0.10):

- ``vol_copy`` is a point-in-time snapshot of an LVM *thin* volume; of plain LVM it refuses. Of ZFS
  it leaves a ZFS snapshot behind that the API cannot remove, so ZFS pools are refused here.
- The export is writable, for one initiator, without CHAP. We open it read-only.
- The API does not tell the target's name: the admin does.
- Selected extents are kept on the primary; the copy is always whole.
"""

from __future__ import annotations

from typing import Any, Final

from ..errors import BackupHostRefusedError, BadAnswerError, BadSettingError
from ..sources.initiator import initiator_name
from ..sources.iscsi_url import DEFAULT_PORT, format_portal, parse_iscsi_url
from .answer import one_line
from .backup_host import BackupHost, RemoteSnapshot, SnapshotRequest
from .targetd_call import TargetdCaller

LUNS: Final = range(256)
"""What a node ACL of LIO may map."""


class TargetdBackupHost(BackupHost):
    """See ``backup_host.BackupHost``. Origins are POOL/VOLUME."""

    def __init__(self, call: TargetdCaller, initiator: str | None = None) -> None:
        self._call = call
        self._initiator = initiator or initiator_name()

    @property
    def name(self) -> str:
        """The host of the URL."""
        return self._call.host

    @property
    def addresses(self) -> frozenset[str]:
        """The host itself: the export's address is made of it."""
        return frozenset({self._call.host})

    def find_origin(self, iqn: str, lun: int) -> str:
        """Cannot be asked of targetd: it does not tell the names of its targets."""
        reason = f"targetd does not tell which volume LUN {lun} of {iqn} is; name it: POOL/VOLUME"
        raise BadSettingError("origin", "", reason)

    def has_snapshot(self, request: SnapshotRequest) -> bool:
        """Ask ``vol_list``."""
        pool, _ = _split(request)
        return request.snapshot in self._names(self._list("vol_list", pool=pool), "name")

    def create(self, request: SnapshotRequest) -> RemoteSnapshot:
        """Copy, and export to this host's initiator name alone."""
        pool, volume = _split(request)
        self._check_request(request)
        if not self.has_snapshot(request):
            self._check_pool(pool)
            self._call("vol_copy", pool=pool, vol_orig=volume, vol_new=request.snapshot)
        exports = self._exports()
        ours = [item for item in exports if self._is_of(item, request)]
        lun = ours[0]["lun"] if ours else self._free_lun(exports)
        if not ours:
            self._call("export_create", pool=pool, vol=request.snapshot, **self._mapping(lun))
        portal = request.portal or format_portal(self.name, DEFAULT_PORT)
        url = parse_iscsi_url(f"iscsi://{portal}/{request.target}/{lun}")
        return RemoteSnapshot(str(url), request.extents)

    def delete(self, request: SnapshotRequest) -> bool:
        """Take the export away, then the copy."""
        pool, _ = _split(request)
        if any(self._is_of(item, request) for item in self._exports()):
            who = self._initiator
            self._call("export_destroy", pool=pool, vol=request.snapshot, initiator_wwn=who)
        if not self.has_snapshot(request):
            return False
        self._call("vol_destroy", pool=pool, name=request.snapshot)
        return True

    def remove_command(self, request: SnapshotRequest) -> str:
        """Return the LVM command; targetd has no command line."""
        pool, _ = _split(request)
        return f"lvremove {pool.partition('/')[0]}/{request.snapshot}"

    # --- the parts --------------------------------------------------------------------------

    def _check_request(self, request: SnapshotRequest) -> None:
        if request.target is None:
            reason = "targetd does not tell it; it is target_name of /etc/target/targetd.yaml"
            raise BadSettingError("target", "", reason)
        for name in ("partition", "provider", "size"):
            if getattr(request, name) is not None:
                value = str(getattr(request, name))
                raise BadSettingError(name, value, "targetd cannot do that")

    def _check_pool(self, pool: str) -> None:
        found = [item for item in self._list("pool_list") if item.get("name") == pool]
        if not found:
            raise BackupHostRefusedError(self.name, f"targetd has no pool {pool}")
        if isinstance(found[0].get("uuid"), int):  # as its ZFS backend has them
            reason = "a copy in a ZFS pool would leave a ZFS snapshot that targetd cannot remove"
            raise BackupHostRefusedError(self.name, reason)

    def _exports(self) -> list[dict[str, Any]]:
        """Return what is exported to this host."""
        exports = self._list("export_list")
        for item in exports:
            if type(item.get("lun")) is not int or item["lun"] not in LUNS:
                raise BadAnswerError(self.name, "an export in its list has no LUN")
        return [item for item in exports if item.get("initiator_wwn") == self._initiator]

    def _is_of(self, item: dict[str, Any], request: SnapshotRequest) -> bool:
        pool, _ = _split(request)
        return item.get("vol_name") == request.snapshot and item.get("pool") == pool

    def _free_lun(self, exports: list[dict[str, Any]]) -> int:
        used = {item["lun"] for item in exports}
        free = [lun for lun in LUNS if lun not in used]
        if not free:
            raise BackupHostRefusedError(self.name, "every LUN of this host is in use there")
        return free[0]

    def _mapping(self, lun: int) -> dict[str, Any]:
        return {"initiator_wwn": self._initiator, "lun": lun}

    def _list(self, method: str, **parameters: Any) -> list[dict[str, Any]]:
        found = self._call(method, **parameters)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise BadAnswerError(self.name, f"{method} is no list of objects")
        return found

    @staticmethod
    def _names(items: list[dict[str, Any]], key: str) -> set[str]:
        return {str(item.get(key)) for item in items}


def _split(request: SnapshotRequest) -> tuple[str, str]:
    """Return pool and volume; a thin pool's name has a slash itself."""
    pool, _, volume = request.origin.rpartition("/")
    if not pool or not volume:
        raise BadSettingError("origin", one_line(request.origin), "it must be POOL/VOLUME")
    return pool, volume
