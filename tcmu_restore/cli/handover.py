"""``tcmu-restore handover``: a restored volume becomes a plain backstore.

The disk can be open for one backstore only, so there is a moment without any. While it lasts the
LUN's portal groups are closed: to an initiator that is a lost session, after which it logs in
again and repeats; to take the LUN away would be an I/O error. ALUA could not do it: LIO leaves the
access states of user-backed devices to the device, and no other path leads around the disk.

Each step looks at what is there, so a handover that was interrupted is finished by running it
again. The order: the plan is durable; groups closed; volume closed; the new backstore; definition
and state put aside, before anybody can write past them; LUNs; configuration saved; groups opened.
"""

from __future__ import annotations

import time
from types import ModuleType
from typing import TYPE_CHECKING

import click

from ..options import SUBTYPE
from . import lio_restore
from .condition import is_open
from .confirmation import YES_OPTION, confirm
from .context import CliContext
from .errors import HandoverError, LioError
from .handover_plan import (
    DONE_SUFFIX,
    HandoverPlan,
    consequences,
    load_plan,
    make_plan,
    make_undo,
    undo_consequences,
)
from .saved_config import Config, extract, groups_of

if TYPE_CHECKING:
    from .client import ServiceClient


@click.command()
@click.argument("name")
@click.option("--forget", is_flag=True, help="Delete the volume's definition and state as well.")
@click.option("--undo", is_flag=True, help="Make a volume again of what was handed over.")
@YES_OPTION
@click.pass_obj
def handover(cli: CliContext, name: str, forget: bool, undo: bool, yes: bool) -> None:
    """Give the disk of the restored volume NAME to a plain backstore.

    Serial, WWN, LUNs and ACLs stay. Nothing is mirrored from then on. If it was interrupted, run
    it again. The other way is: tcmu-restore protect NAME

    With --undo the volume is mirrored again; all of it is sent to the backup.
    """
    rtslib = cli.rtslib("handover")
    plan = load_plan(name)
    if plan is None and undo:
        plan = make_way_back(rtslib, name)
        if not yes:
            confirm("handover --undo", undo_consequences(plan))
    elif plan is None:
        status = cli.client.status(name)
        plan = make_handover(cli.client, rtslib, name, forget=forget)
        if not yes:
            confirm("handover", consequences(plan, status["size"]))
    for line in carry_out(cli.client, rtslib, plan):
        click.echo(line)


def make_way_back(rtslib: ModuleType, name: str) -> HandoverPlan:
    """Return a plan that undoes the handover of *name*; nothing is changed yet.

    Raises HandoverError.
    """
    done = load_plan(name, suffix=DONE_SUFFIX)
    if done is None:
        reason = "nothing of this name was handed over, or it was to be forgotten"
        raise HandoverError(name, reason, "Nothing was changed.")
    current = rtslib.RTSRoot().dump()
    for item in current["storage_objects"]:
        if (item["plugin"], item["name"]) == (done.after["plugin"], done.after["name"]):
            return make_undo(done, extract(current, item))
    raise HandoverError(name, "its plain backstore is not in LIO", "Nothing was changed.")


def make_handover(
    client: ServiceClient, rtslib: ModuleType, name: str, *, forget: bool
) -> HandoverPlan:
    """Return a plan for *name*; nothing is changed yet. Raises HandoverError."""
    status = client.status(name)
    loaded = lio_restore.loaded_volume(rtslib, name)
    if loaded is None:
        raise HandoverError(name, "it has no backstore in LIO", "Nothing was changed.")
    plan = make_plan(status, loaded, forget=forget)
    if status.get("restore_from") is not None:
        reason = f"a restore-from is not finished; see: tcmu-restore status {name}"
        raise HandoverError(name, reason, "Nothing was changed.")
    if lio_restore.has_registrations(lio_restore.find_object(rtslib, name)):
        reason = "initiators have persistent reservations on it; let them unregister"
        raise HandoverError(name, reason, "Nothing was changed.")
    return plan


def carry_out(client: ServiceClient, rtslib: ModuleType, plan: HandoverPlan) -> list[str]:
    """Do what *plan* says, from wherever it stands; return what was done, a sentence each.

    Raises:
        HandoverError: It failed, and the volume is served as before.
        LioError, RestoreError: It was interrupted; running it again goes on.
    """
    plan.save()
    _open_groups(rtslib, plan, wanted=False)
    if plan.is_undo:
        _give_to_volume(client, rtslib, plan)
    elif plan.volume in client.list_volumes():
        _take_from_volume(client, rtslib, plan)
        client.retire(plan.volume, forget=plan.forget)
    target = _object_after(rtslib, plan)
    problems = lio_restore.map_luns(rtslib, plan.luns, target)
    if problems:
        raise LioError(f"a part of {plan.volume!r}", " ".join(problems).rstrip("."))
    lio_restore.save(rtslib, lambda config: _with_groups_open(config, plan))
    _open_groups(rtslib, plan, wanted=True)
    plan.end(is_done=True)
    plugin = f"user:{SUBTYPE}" if plan.is_undo else plan.after["plugin"]
    where = f"/backstores/{plugin}/{plan.after['name']}"
    return [f"{plan.volume} is {where} now; LUNs: {len(plan.luns)}. The configuration is saved."]


def _take_from_volume(client: ServiceClient, rtslib: ModuleType, plan: HandoverPlan) -> None:
    """Close the volume and make the new backstore, or serve the volume again."""
    try:
        found = lio_restore.find_plain(rtslib, plan.before)
        if found is not None:
            with lio_restore.lio_errors(f"to delete {plan.volume}"):
                found.delete()
        _check_restored(client, plan)
        _object_after(rtslib, plan)
    except (HandoverError, LioError) as error:
        _serve_again(rtslib, plan)
        raise HandoverError(plan.volume, error.reason, _AS_BEFORE) from error


def _give_to_volume(client: ServiceClient, rtslib: ModuleType, plan: HandoverPlan) -> None:
    """Take the disk from the plain backstore and make the volume's, or serve it plainly again.

    All of the volume is stale, so whatever the plain backstore writes in between is no harm.
    """
    try:
        found = lio_restore.find_plain(rtslib, plan.before)
        if found is not None:
            with lio_restore.lio_errors(f"to delete {plan.volume}"):
                found.delete()
        client.take_back(plan.volume)
        _object_after(rtslib, plan)
    except LioError as error:
        client.retire(plan.volume, forget=False)
        _serve_again(rtslib, plan)
        raise HandoverError(plan.volume, error.reason, _AS_BEFORE) from error


def _check_restored(client: ServiceClient, plan: HandoverPlan) -> None:
    """Now that nobody writes any more: a disk may have failed in the last moment."""
    end = time.monotonic() + CLOSE_SECONDS
    while is_open(status := client.status(plan.volume)) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    if not status.get("restored"):
        reason = "its primary does not hold everything any more"
        raise HandoverError(plan.volume, reason, _AS_BEFORE)


CLOSE_SECONDS = 30.0
"""How long the volume may take to close; as a rule it is closed when its backstore is deleted."""

POLL_SECONDS = 0.2
_AS_BEFORE = "It is served as before."


def _serve_again(rtslib: ModuleType, plan: HandoverPlan) -> None:
    """Undo what was done so far: the volume's backstore and LUNs, as they were."""
    after = lio_restore.find_plain(rtslib, plan.after)
    if after is not None:
        after.delete()
    made = lio_restore.find_plain(rtslib, plan.before)
    made = made or lio_restore.create_object(rtslib, plan.before)
    lio_restore.map_luns(rtslib, plan.luns, made)
    _open_groups(rtslib, plan, wanted=True)
    plan.end(is_done=False)


def _object_after(rtslib: ModuleType, plan: HandoverPlan) -> object:
    found = lio_restore.find_plain(rtslib, plan.after)
    if found is None:
        return lio_restore.create_object(rtslib, plan.after)
    lio_restore.complete_object(rtslib, found, plan.after)  # made just before an interruption
    return found


def _open_groups(rtslib: ModuleType, plan: HandoverPlan, *, wanted: bool) -> None:
    for one in plan.luns:
        group = lio_restore.find_group(rtslib, one)
        if bool(group.enable) is not wanted:
            with lio_restore.lio_errors(f"to {'open' if wanted else 'close'} {one.wwn}"):
                group.enable = wanted


def _with_groups_open(config: Config, plan: HandoverPlan) -> Config:
    for target, group in groups_of(config):
        if (target["fabric"], target["wwn"], group["tag"]) in plan.disabled:
            group["enable"] = True
    return config
