"""create and delete: the order of the steps, each of which may be the last before a power cut.

create: record, snapshot, record says that it is taken, LUN, saved configuration.
delete: LUN and target, saved configuration, snapshot, record.

Both find out what is there already and go on from it, so the same command again finishes the job.
A new snapshot that is refused on its way is undone, and nothing was changed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace

from ..errors import BadSettingError, RestoreError
from .backing import Backing
from .choice import choose_provider, provider_named
from .errors import (
    SnapshotBrokenError,
    SnapshotCommandError,
    SnapshotExistsError,
    TargetExistsError,
)
from .host import Host
from .identity import make_serial
from .listing import find_orphan
from .origin import Origin, OriginGroup
from .portal import Portal, parse_portal
from .provider import SnapshotProvider
from .record import Record, check_name
from .selection import Extents, check_extents, partition_extent


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """What the admin wants; None: what fits. Sizes are bytes."""

    origin: str
    snapshot: str
    target: str | None = None
    portal: str | None = None
    extents: tuple[tuple[int, int], ...] = ()
    partition: int | None = None
    provider: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that is known before anything is changed."""

    record: Record
    provider: SnapshotProvider
    backing: Backing
    group: OriginGroup


def create(host: Host, request: CreateRequest) -> Record:
    """Take a snapshot and export it, or finish what an earlier call has begun.

    Raises:
        UserError: nothing was changed. SnapshotCommandError: LVM or LIO refuses; a new snapshot was
            undone, one that was taken earlier stays. SnapshotRecordError: see there.
    """
    check_name(request.snapshot)
    with host.records.lock():
        known = host.records.load(request.snapshot)
        if known is not None and known.is_taken:
            _check_same(host, known, request)
            return _finish(host, known)
        if known is not None:
            _remove(host, known)  # nobody has seen it, and it may be half made
        return _create_new(host, request)


def _create_new(host: Host, request: CreateRequest) -> Record:
    plan = _plan(host, request)
    try:
        record = _take(host, plan, request)
        host.lio.export(record, plan.provider.plugin, plan.group)
    except RestoreError:
        with suppress(RestoreError):  # what cannot be removed stays in the list
            _remove(host, plan.record)
        raise
    return record


def _take(host: Host, plan: _Plan, request: CreateRequest) -> Record:
    if request.origin.startswith("fileio/"):
        _flush(plan.backing.path)
    host.records.save(plan.record)
    plan.provider.take(plan.backing, plan.record.device, request.size)
    record = replace(plan.record, is_taken=True)
    host.records.save(record)
    return record


def _finish(host: Host, record: Record) -> Record:
    """Export a snapshot that is taken, unless it is exported."""
    provider = provider_named(record.provider, host.run)
    fault = provider.find_fault(record.device)
    if fault is not None:
        raise SnapshotBrokenError(record.snapshot, fault)
    if host.lio.is_exported(record):
        host.lio.save(record, provider.plugin)  # the last step: it may be the missing one
    else:
        group = host.lio.origin_group(record.origin, parse_portal(record.portals[0]))
        provider.activate(record.device)
        host.lio.export(record, provider.plugin, group)
    return record


def delete(host: Host, snapshot: str) -> bool:
    """Take a snapshot away, with its LUN and target; return whether there was one.

    Raises:
        BadSettingError: not a name. SnapshotCommandError: LVM or LIO refuses; the same call again
            goes on. SnapshotRecordError: see there.
    """
    check_name(snapshot)
    with host.records.lock():
        record = host.records.load(snapshot) or find_orphan(host, snapshot)
        if record is None:
            return False
        _remove(host, record)
        return True


def _remove(host: Host, record: Record) -> None:
    provider = provider_named(record.provider, host.run)
    host.lio.withdraw(record, provider.plugin)
    provider.remove(record.device)
    host.records.remove(record.snapshot)


# --- planning -------------------------------------------------------------------------------


def _plan(host: Host, request: CreateRequest) -> _Plan:
    origin = host.lio.origin(request.origin)
    portal = _portal(host, request.portal) if request.portal else None
    group = host.lio.origin_group(origin.name, portal)
    backing = host.find_backing(origin.name, origin.path, host.run)
    provider = choose_provider(backing, host.run, name=request.provider, size=request.size)
    record = Record(
        snapshot=request.snapshot,
        origin=origin.name,
        provider=provider.name,
        device=provider.place(backing, request.snapshot),
        size=origin.size,
        block_size=origin.block_size,
        area=request.size,
        target=_target(host, request, group),
        portals=_portals(portal, group),
        serial=make_serial(origin.serial),
        extents=_extents(host, request, origin),
        # now, and not later: an older snapshot must never be taken for a newer one
        created=host.now().isoformat(timespec="seconds"),
        is_taken=False,
    )
    if host.lio.has_target(record.target):
        raise TargetExistsError(record.target)
    provider.check(backing, record.device, request.size)
    return _Plan(record, provider, backing, group)


def _target(host: Host, request: CreateRequest, group: OriginGroup) -> str:
    if request.target is not None:
        return host.lio.normalize_target(request.target)
    suffix = request.snapshot.lower().replace("_", "-")  # an IQN has no underscore
    return host.lio.normalize_target(f"{group.target}:snapshot-{suffix}")


def _portal(host: Host, text: str) -> Portal:
    portal = parse_portal(text)
    if not host.has_address(portal):
        raise BadSettingError("portal", text[:100], "no interface of this host has that address")
    return portal


def _portals(portal: Portal | None, group: OriginGroup) -> tuple[str, ...]:
    chosen = group.portals if portal is None else [portal]
    return tuple(str(each) for each in chosen)


def _extents(host: Host, request: CreateRequest, origin: Origin) -> Extents | None:
    if request.partition is None:
        return check_extents(request.extents, origin.size) if request.extents else None
    if request.extents:
        raise BadSettingError("partition", str(request.partition), "extents are given as well")
    return (partition_extent(origin.path, request.partition, origin.size, host.run),)


def _check_same(host: Host, known: Record, request: CreateRequest) -> None:
    """Raise SnapshotExistsError unless *request* can mean the snapshot that is there."""

    def refuse(reason: str) -> SnapshotExistsError:
        return SnapshotExistsError(known.snapshot, reason)

    if known.origin != request.origin:
        raise refuse(f"of {known.origin}")
    if request.target is not None and host.lio.normalize_target(request.target) != known.target:
        raise refuse(f"with the target {known.target}")
    if request.portal is not None and (str(parse_portal(request.portal)),) != known.portals:
        raise refuse(f"at the portal {known.portals[0]}")
    if request.provider not in (None, known.provider):
        raise refuse(f"of the kind {known.provider}")
    if request.size not in (None, known.area):
        raise refuse("with an area of another size")
    if request.extents and check_extents(request.extents, known.size) != known.extents:
        raise refuse("of another data set")
    if request.partition is not None:
        extent = partition_extent(known.device, request.partition, known.size, host.run)
        if known.extents != (extent,):
            raise refuse("of another data set")


def _flush(path: str) -> None:
    """Bring what LIO holds in the page cache to the origin: a write-back cache, or a device's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SnapshotCommandError(f"Flushing {path}", str(error.strerror)) from error
