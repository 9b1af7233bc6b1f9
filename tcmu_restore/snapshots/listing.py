"""What this host has of snapshots, and the documented JSON objects of them.

Orphans are shown too: a record whose device is gone is *broken*, and so is a LUN without a record,
which is known by its serial number.
"""

from __future__ import annotations

from typing import Any, Literal

from .choice import provider_named
from .host import Host
from .identity import origin_of_serial
from .lvm_provider import ClassicProvider
from .origin import Stranger
from .record import Record
from .reflink import ReflinkProvider

State = Literal["exported", "not exported", "broken"]

_OBJECT_PREFIX = "snapshot-"


def describe(record: Record) -> dict[str, Any]:
    """Return the documented JSON object of a snapshot. Sizes are bytes."""
    extents = record.extents
    return {
        "snapshot": record.snapshot,
        "origin": record.origin,
        "provider": record.provider,
        "device": record.device,
        "size": record.size,
        "target": record.target,
        "lun": 0,
        "portal": record.portals[0],
        "url": record.url,
        "extents": None if extents is None else [list(extent) for extent in extents],
        "created": record.created,
    }


def list_snapshots(host: Host, origin: str | None = None) -> list[dict[str, Any]]:
    """Return the documented objects with state and the command that removes it, by name.

    *origin* leaves out the snapshots of others.

    Raises:
        SnapshotRecordError: a record is damaged. SnapshotCommandError: LVM or LIO cannot be asked.
    """
    known = host.records.load_all()
    found = [(record, _state(host, record)) for record in known]
    orphans: list[tuple[Record, State]] = [
        (record, "broken") for record in _orphans(host, {record.serial for record in known})
    ]
    return [
        describe(record)
        | {"state": state, "remove": f"tcmu-restore snapshot-delete {record.snapshot}"}
        for record, state in sorted(found + orphans, key=lambda pair: pair[0].snapshot)
        if origin in (None, record.origin)
    ]


def find_orphan(host: Host, snapshot: str) -> Record | None:
    """Return a record of a LUN that has none, so that it can be removed."""
    for record in _orphans(host, set()):
        if record.snapshot == snapshot:
            return record
    return None


def _state(host: Host, record: Record) -> State:
    if not record.is_taken:
        return "not exported"
    if provider_named(record.provider, host.run).find_fault(record.device) is not None:
        return "broken"
    return "exported" if host.lio.is_exported(record) else "not exported"


def _orphans(host: Host, known: set[str]) -> list[Record]:
    return [
        _record(host, stranger)
        for stranger in host.lio.strangers(known)
        if stranger.storage_object.name.startswith(_OBJECT_PREFIX)
    ]


def _record(host: Host, stranger: Stranger) -> Record:
    """Return what a record would say. Any provider of LVM removes the snapshots of all of them."""
    found = stranger.storage_object
    origin = host.lio.name_of_serial(origin_of_serial(found.serial) or "")
    is_file = stranger.plugin == ReflinkProvider.plugin
    return Record(
        snapshot=found.name.removeprefix(_OBJECT_PREFIX),
        origin=origin or "unknown",
        provider=ReflinkProvider.name if is_file else ClassicProvider.name,
        device=found.path,
        size=found.size,
        block_size=found.block_size,
        area=None,
        target=stranger.target,
        portals=stranger.portals or ("",),
        serial=found.serial,
        extents=None,
        created="",
        is_taken=True,
    )
