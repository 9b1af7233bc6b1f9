"""One object a volume: its path, its properties, and the signal that tells what changed."""

from __future__ import annotations

import logging
import os
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from dbus_fast import MessageFlag, Variant
from dbus_fast.aio import MessageBus
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.errors import StateCorruptError
from tcmu_restore.options import DBUS_PATH, VOLUME_NAME
from tcmu_restore.service.contract import (
    ACCESS_DENIED,
    INTERNAL_ERROR,
    PROPERTIES,
    VOLUME_INTERFACE,
    VOLUME_PROPERTIES,
    VOLUMES_PATH,
    volume_name,
    volume_path,
)
from tests.service.fake_registry import SIZE, FakeRegistry, conditions, make_status
from tests.service.signal_record import SignalRecord
from tests.service.test_server import call, message, run

REGIONS = SIZE // 4096


# --- paths ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "element"), [("vm01", "vm01"), ("a-b", "a_2db"), ("a_b", "a_5fb"), ("-", "_2d")]
)
def test_path_of_a_volume(name: str, element: str) -> None:
    assert volume_path(name) == f"{VOLUMES_PATH}/{element}"


@given(st.from_regex(VOLUME_NAME, fullmatch=True), st.from_regex(VOLUME_NAME, fullmatch=True))
def test_path_is_a_dbus_path_and_leads_back_to_its_volume_only(name: str, other: str) -> None:
    path = volume_path(name)
    assert re.fullmatch("(/[A-Za-z0-9_]+)+", path)
    assert volume_name(path) == name
    assert (volume_path(other) == path) == (other == name)


@pytest.mark.parametrize(
    "element", ["", "a_", "a_2", "_zz", "_2D", "_41", "a/b", "_2f", "_00", "a_+1", "x" * 65]
)
def test_path_that_no_volume_can_have(element: str) -> None:
    assert volume_name(f"{VOLUMES_PATH}/{element}") is None
    assert volume_name(element) is None


# --- properties -----------------------------------------------------------------------------


async def ask(bus: MessageBus, member: str, name: str, *body: Any, **changes: Any) -> Any:
    signature = {"Get": "ss", "GetAll": "s", "Set": "ssv"}[member]
    path = volume_path(name)
    settings = {"path": path, "interface": PROPERTIES, "signature": signature} | changes
    return await call(bus, member, *body, **settings)


def make_registry() -> FakeRegistry:
    registry = FakeRegistry()
    registry.volumes["a-b"] = make_status(
        "a-b",
        state="degraded",
        advice="Bring the link back.",
        conditions=conditions("degraded", "restoring"),
    )
    registry.volumes["a-b"]["regions"] |= {"stale": 3, "in_doubt": 2, "outdated": 1}
    registry.volumes["a-b"]["backup"]["reachable"] = False
    return registry


EXPECTED = {
    "Name": Variant("s", "a-b"),
    "State": Variant("s", "degraded"),
    "Conditions": Variant("as", ["degraded", "restoring"]),
    "Advice": Variant("s", "Bring the link back."),
    "RegionsLost": Variant("t", REGIONS),
    "RegionsStale": Variant("t", 3),
    "RegionsInDoubt": Variant("t", 2),
    "RegionsOutdated": Variant("t", 1),
    "BackupReachable": Variant("b", value=False),
    "MergeState": Variant("s", "idle"),
}


@pytest.mark.parametrize("interface", [VOLUME_INTERFACE, ""])
def test_all_properties_are_the_status(bus_address: str, interface: str) -> None:
    async def session(bus: MessageBus) -> None:
        reply = await ask(bus, "GetAll", "a-b", interface)
        assert (reply.signature, reply.body) == ("a{sv}", [EXPECTED])

    run(make_registry(), bus_address, session)


def test_each_property_can_be_got(bus_address: str) -> None:
    async def session(bus: MessageBus) -> None:
        for name, value in EXPECTED.items():
            reply = await ask(bus, "Get", "a-b", VOLUME_INTERFACE, name)
            assert (reply.signature, reply.body) == ("v", [value]), name

    run(make_registry(), bus_address, session)


def test_closed_volume_has_no_counts_and_says_why(bus_address: str) -> None:
    registry = FakeRegistry()
    registry.volumes["a"] = {"volume": "a", "state": "closed", "advice": "Serve it."}

    async def session(bus: MessageBus) -> None:
        reply = await ask(bus, "GetAll", "a", VOLUME_INTERFACE)
        assert reply.body[0] == {
            "Name": Variant("s", "a"),
            "State": Variant("s", "closed"),
            "Conditions": Variant("as", ["closed"]),
            "Advice": Variant("s", "Serve it."),
        }
        reply = await ask(bus, "Get", "a", VOLUME_INTERFACE, "RegionsLost")
        assert reply.error_name == "org.tcmu_restore.Error.VolumeNotOpen"
        reply = await ask(bus, "Get", "a", VOLUME_INTERFACE, "State")
        assert reply.body == [Variant("s", "closed")]

    run(registry, bus_address, session)


@pytest.mark.parametrize(
    ("member", "body", "error"),
    [
        ("Get", (VOLUME_INTERFACE, "Colour"), "UnknownProperty"),
        ("Get", ("org.other", "State"), "UnknownInterface"),
        ("GetAll", ("org.other",), "UnknownInterface"),
        ("Set", (VOLUME_INTERFACE, "State", Variant("s", "in_sync")), "PropertyReadOnly"),
        ("Set", (VOLUME_INTERFACE, "Colour", Variant("s", "red")), "UnknownProperty"),
    ],
)
def test_what_the_interface_does_not_offer_is_refused_by_its_dbus_name(
    bus_address: str, member: str, body: tuple[Any, ...], error: str
) -> None:
    registry = make_registry()

    async def session(bus: MessageBus) -> None:
        reply = await ask(bus, member, "a-b", *body)
        assert reply.error_name == f"org.freedesktop.DBus.Error.{error}"

    run(registry, bus_address, session)
    assert registry.volumes["a-b"]["state"] == "degraded"


def test_volume_that_is_not_there_and_path_that_is_none(bus_address: str) -> None:
    async def session(bus: MessageBus) -> None:
        reply = await ask(bus, "GetAll", "nobody", VOLUME_INTERFACE)
        assert reply.error_name == "org.tcmu_restore.Error.UnknownVolume"
        for path in (f"{VOLUMES_PATH}/_2f", VOLUMES_PATH, DBUS_PATH):
            reply = await ask(bus, "GetAll", "x", VOLUME_INTERFACE, path=path)
            assert reply.error_name == "org.freedesktop.DBus.Error.UnknownObject", path
        reply = await call(bus, "ListVolumes", path=volume_path("a-b"))
        assert reply.error_name == "org.freedesktop.DBus.Error.UnknownMethod"
        reply = await ask(bus, "Get", "a-b", "x", signature="s")
        assert reply.error_name == "org.freedesktop.DBus.Error.UnknownMethod"

    run(make_registry(), bus_address, session)


def test_error_of_the_registry_is_the_answer(bus_address: str) -> None:
    registry = make_registry()

    async def session(bus: MessageBus) -> None:
        registry.failures["status"] = StateCorruptError("/x.db", "a bad page")
        reply = await ask(bus, "GetAll", "a-b", VOLUME_INTERFACE)
        assert reply.error_name == "org.tcmu_restore.Error.StateCorrupt"
        registry.failures["status"] = ZeroDivisionError()
        reply = await ask(bus, "GetAll", "a-b", VOLUME_INTERFACE)
        assert reply.error_name == INTERNAL_ERROR

    run(registry, bus_address, session)


def test_caller_that_is_not_allowed_learns_nothing_of_volumes(bus_address: str) -> None:
    registry = make_registry()
    introspect = {"interface": "org.freedesktop.DBus.Introspectable", "signature": ""}

    async def session(bus: MessageBus) -> None:
        replies = [
            await ask(bus, "GetAll", "a-b", VOLUME_INTERFACE),
            await ask(bus, "Get", "a-b", VOLUME_INTERFACE, "State"),
            await ask(bus, "Get", "a-b", VOLUME_INTERFACE, "State", interface=None),
            await ask(bus, "Set", "a-b", VOLUME_INTERFACE, "State", Variant("s", "x")),
            await call(bus, "Introspect", path=VOLUMES_PATH, **introspect),
            await call(bus, "Introspect", path=volume_path("a-b"), **introspect),
            await call(bus, "Introspect", path=volume_path("nobody"), **introspect),
        ]
        assert {reply.error_name for reply in replies} == {ACCESS_DENIED}

    run(registry, bus_address, session, uids={os.getuid() + 1})
    assert registry.calls == []


def test_call_without_a_reply_wanted_gets_none(bus_address: str) -> None:
    async def session(bus: MessageBus) -> None:
        wanted_none = message(
            "GetAll",
            VOLUME_INTERFACE,
            path=volume_path("a-b"),
            interface=PROPERTIES,
            signature="s",
            flags=MessageFlag.NO_REPLY_EXPECTED,
        )
        await bus.send(wanted_none)
        assert (await call(bus, "ListVolumes")).body == [["a-b"]]

    run(make_registry(), bus_address, session)


# --- introspection --------------------------------------------------------------------------


async def introspect(bus: MessageBus, path: str) -> ElementTree.Element:
    interface = "org.freedesktop.DBus.Introspectable"
    reply = await call(bus, "Introspect", path=path, interface=interface, signature="")
    assert reply.error_name is None, reply.body
    return ElementTree.fromstring(reply.body[0])


def test_introspection_lists_the_volumes_and_their_properties(bus_address: str) -> None:
    registry = make_registry()
    registry.volumes["c"] = make_status("c")

    async def session(bus: MessageBus) -> None:
        root = await introspect(bus, VOLUMES_PATH)
        assert [node.get("name") for node in root.findall("node")] == ["a_2db", "c"]
        root = await introspect(bus, volume_path("c"))
        found = {item.get("name"): item for item in root.iter("property")}
        assert found.keys() == VOLUME_PROPERTIES.keys()
        for name, item in found.items():
            assert item.get("type") == VOLUME_PROPERTIES[name or ""].signature
            assert item.get("access") == "read"
        notes = {name: item.findall("annotation")[0].get("value") for name, item in found.items()}
        assert [name for name, value in notes.items() if value == "true"] == [
            "State",
            "Conditions",
            "Advice",
        ]

    run(registry, bus_address, session)


def test_introspection_of_a_volume_that_is_not_there_is_an_error(bus_address: str) -> None:
    async def session(bus: MessageBus) -> None:
        interface = "org.freedesktop.DBus.Introspectable"
        path = volume_path("nobody")
        reply = await call(bus, "Introspect", path=path, interface=interface, signature="")
        assert reply.error_name == "org.tcmu_restore.Error.UnknownVolume"

    run(make_registry(), bus_address, session)


# --- signals --------------------------------------------------------------------------------


def test_change_is_told_on_the_volume_s_object(bus_address: str) -> None:
    registry, record = make_registry(), SignalRecord()

    async def session(bus: MessageBus) -> None:
        await record.listen(bus)
        registry.on_change("a-b", "degraded")
        await record.wait(2)

    run(registry, bus_address, session)
    announced = {key: EXPECTED[key] for key in ("State", "Conditions", "Advice")}
    assert record.seen == [
        (DBUS_PATH, "StateChanged", ["a-b", "degraded"]),
        (volume_path("a-b"), "PropertiesChanged", [VOLUME_INTERFACE, announced, []]),
    ]


def test_status_is_read_when_the_engine_s_change_is_over(bus_address: str) -> None:
    registry, record = make_registry(), SignalRecord()
    status = registry.volumes.pop("a-b")

    async def session(bus: MessageBus) -> None:
        await record.listen(bus)
        registry.on_change("a-b", "degraded")
        assert registry.calls == []
        registry.volumes["a-b"] = status  # the open ends after the engine has told its first state
        await record.wait(2)

    run(registry, bus_address, session)
    assert record.seen[1][2][1]["Conditions"].value == ["degraded", "restoring"]


def test_only_news_is_told(bus_address: str) -> None:
    registry, record = make_registry(), SignalRecord()

    async def session(bus: MessageBus) -> None:
        await record.listen(bus)
        for _ in range(3):
            registry.on_change("a-b", "degraded")
        await record.wait(2)
        registry.volumes["a-b"]["conditions"] = conditions("degraded")
        registry.on_change("a-b", "degraded")  # another condition, the same state
        await record.wait(3)
        registry.volumes["a-b"] |= {"state": "in_sync", "conditions": conditions("in_sync")}
        registry.on_change("a-b", "in_sync")
        await record.wait(5)

    run(registry, bus_address, session)
    members = [(member, body[1]) for _, member, body in record.seen]
    assert [member for member, _ in members] == [
        "StateChanged",
        "PropertiesChanged",
        "PropertiesChanged",
        "StateChanged",
        "PropertiesChanged",
    ]
    assert members[2][1]["Conditions"].value == ["degraded"]


@pytest.mark.parametrize("error", [StateCorruptError("/x.db", "bad"), ZeroDivisionError()])
def test_status_that_cannot_be_read_is_told_as_far_as_it_is_known(
    bus_address: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    registry, record = make_registry(), SignalRecord()
    registry.failures["status"] = error

    async def session(bus: MessageBus) -> None:
        await record.listen(bus)
        registry.on_change("a-b", "failed")
        await record.wait(2)

    with caplog.at_level(logging.INFO):
        run(registry, bus_address, session)
    changed = [VOLUME_INTERFACE, {"State": Variant("s", "failed")}, ["Conditions", "Advice"]]
    assert record.seen[1] == (volume_path("a-b"), "PropertiesChanged", changed)
    assert "volume=a-b operation=status its status cannot be told" in caplog.text
    assert ("Traceback" in caplog.text) == isinstance(error, ZeroDivisionError)


def test_change_just_before_the_end_harms_nobody(
    bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = make_registry()

    async def session(bus: MessageBus) -> None:
        del bus
        registry.on_change("a-b", "degraded")

    run(registry, bus_address, session)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
