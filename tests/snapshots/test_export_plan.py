"""The portal group of a snapshot: secrets copied, writes refused, nobody new let in."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from tcmu_restore.snapshots.export_plan import plan_group
from tcmu_restore.snapshots.portal import Portal

GROUP: dict[str, Any] = {
    "tag": 2,
    "enable": True,
    "attributes": {"authentication": 1, "generate_node_acls": 0, "demo_mode_write_protect": 0},
    "parameters": {"AuthMethod": "CHAP", "HeaderDigest": "CRC32C,None"},
    "chap_userid": "anybody",
    "chap_password": "group-secret",
    "luns": [{"index": 0, "storage_object": "/backstores/block/b"}, {"index": 7}],
    "portals": [{"ip_address": "192.0.2.1", "port": 3260, "iser": True}],
    "node_acls": [
        {
            "node_wwn": "iqn.2026-11.org.example:a",
            "attributes": {"nopin_timeout": 15},
            "chap_userid": "a",
            "chap_password": "a-secret",
            "chap_mutual_userid": "t",
            "chap_mutual_password": "t-secret",
            "mapped_luns": [
                {"index": 5, "tpg_lun": 0, "write_protect": False},
                {"index": 6, "tpg_lun": 7, "write_protect": False},
            ],
        },
        {
            "node_wwn": "iqn.2026-11.org.example:other",
            "mapped_luns": [{"index": 0, "tpg_lun": 7, "write_protect": False}],
        },
    ],
}


def test_group_is_the_origins_with_one_lun_that_nobody_can_write() -> None:
    given = deepcopy(GROUP)
    planned = plan_group(given, 0, "/backstores/fileio/snapshot-s", [Portal("[fd00::1]", 3261)])
    assert given == GROUP, "the origin's own document was changed"
    assert planned == {
        **GROUP,
        "tag": 1,
        "enable": False,
        "attributes": {
            "authentication": 1,
            "generate_node_acls": 0,
            "demo_mode_write_protect": 1,
            "prod_mode_write_protect": 1,
        },
        "luns": [{"index": 0, "storage_object": "/backstores/fileio/snapshot-s"}],
        "portals": [{"ip_address": "[fd00::1]", "port": 3261, "iser": False, "offload": False}],
        "node_acls": [
            {
                **GROUP["node_acls"][0],
                "mapped_luns": [{"index": 0, "tpg_lun": 0, "write_protect": True}],
            },
            {**GROUP["node_acls"][1], "mapped_luns": []},
        ],
    }


def test_group_without_initiators_of_its_own_stays_without() -> None:
    planned = plan_group({"attributes": {"generate_node_acls": 1}}, 0, "/backstores/block/s", [])
    assert planned["attributes"]["generate_node_acls"] == 1
    assert planned["attributes"]["demo_mode_write_protect"] == 1
    assert "node_acls" not in planned
