"""The portal group of a snapshot, made of its origin's: whom it lets in, and what they may do.

Both are in rtslib's own form, the one that saveconfig writes. Nothing here touches the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

from .portal import Portal

READ_ONLY: Final = {"demo_mode_write_protect": 1, "prod_mode_write_protect": 1}
"""LIO's fileio backstore has no read-only mode: the group refuses writes, whoever logs in."""

LUN: Final = 0


def plan_group(
    group: dict[str, Any], lun: int, storage_object: str, portals: Iterable[Portal]
) -> dict[str, Any]:
    """Return the group that exports *storage_object* (/backstores/PLUGIN/NAME) like *group*.

    *group* exports the origin as its LUN *lun*. Its attributes, parameters, CHAP names and secrets
    and initiators are taken over. An initiator that does not see the origin may log in, because it
    might otherwise be let in as anybody, but sees nothing.
    """
    planned = deepcopy(group)
    planned["tag"] = 1
    planned["enable"] = False  # until it is whole: secrets are set last
    planned["attributes"] = {**group.get("attributes", {}), **READ_ONLY}
    planned["luns"] = [{"index": LUN, "storage_object": storage_object}]
    planned["portals"] = [
        {"ip_address": portal.address, "port": portal.port, "iser": False, "offload": False}
        for portal in portals
    ]
    for initiator in planned.get("node_acls", []):
        sees_origin = any(mapped["tpg_lun"] == lun for mapped in initiator["mapped_luns"])
        mapped = {"index": LUN, "tpg_lun": LUN, "write_protect": True}
        initiator["mapped_luns"] = [mapped] if sees_origin else []
    return planned
