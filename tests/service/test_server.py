"""The service on a real bus, with a registry in memory."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from xml.etree import ElementTree

import pytest
from dbus_fast import Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

from tcmu_restore.engine.link_settings import BULK_KEYS, LIVE_KEYS
from tcmu_restore.errors import ServiceUnavailableError
from tcmu_restore.options import DBUS_MANAGER, DBUS_NAME, DBUS_PATH
from tcmu_restore.service import bus as message_bus
from tcmu_restore.service.contract import (
    ACCESS_DENIED,
    INTERNAL_ERROR,
    LINK_SETTINGS,
    LIVE_LINK_SETTINGS,
    METHODS,
)
from tcmu_restore.service.server import serve
from tests.service.fake_registry import RESYNC, SIZE, FakeRegistry, make_status

Session = Callable[[MessageBus], Awaitable[None]]

SETTINGS = {"primary": Variant("s", "/dev/p"), "backup": Variant("s", "iscsi://b/iqn.a/0")}


def run(
    registry: FakeRegistry, address: str, session: Session, uids: Iterable[int] | None = None
) -> None:
    async def main() -> None:
        allowed = frozenset({os.getuid()} if uids is None else uids)
        server = await serve(registry, address, allowed_uids=allowed)
        client = await message_bus.connect(address)
        try:
            async with asyncio.timeout(10):
                await session(client)
        finally:
            await message_bus.disconnect(client)
            await server.close()

    asyncio.run(main())


def message(member: str, /, *body: Any, **changes: Any) -> Message:
    known = METHODS.get(member)
    settings: dict[str, Any] = {
        "destination": DBUS_NAME,
        "path": DBUS_PATH,
        "interface": DBUS_MANAGER,
        "member": member,
        "signature": known.in_signature if known else "",
        "body": list(body),
    }
    return Message(**settings | changes)


async def call(bus: MessageBus, member: str, /, *body: Any, **changes: Any) -> Message:
    reply = await bus.call(message(member, *body, **changes))
    assert reply is not None
    return reply


def test_create_volume_passes_settings_and_returns_size(bus_address: str) -> None:
    registry = FakeRegistry()

    async def session(bus: MessageBus) -> None:
        settings = SETTINGS | {
            "credentials": Variant("s", "/etc/secret"),
            "mirror": Variant("s", "strict"),
            "portals": Variant("as", ["192.0.2.7", "h:3261"]),
            "interface": Variant("s", "eth1"),
            "source_address": Variant("s", "192.0.2.1"),
            "sessions": Variant("u", 4),
            "header_digest": Variant("b", value=True),
            "rate_max": Variant("t", 5000),
        }
        reply = await call(bus, "CreateVolume", "vol0", settings)
        assert (reply.signature, reply.body) == ("t", [SIZE])

    run(registry, bus_address, session)
    assert registry.settings["vol0"] == {
        "primary": "/dev/p",
        "backup": "iscsi://b/iqn.a/0",
        "credentials": "/etc/secret",
        "mirror": "strict",
        "link": {
            "portals": ["192.0.2.7", "h:3261"],
            "interface": "eth1",
            "source_address": "192.0.2.1",
            "sessions": 4,
            "header_digest": True,
            "rate_max": 5000,
        },
    }


def test_links_have_the_settings_that_the_engine_knows() -> None:
    assert tuple(LIVE_LINK_SETTINGS) == LIVE_KEYS
    assert tuple(LINK_SETTINGS) == BULK_KEYS


def test_create_volume_without_mirror_mirrors_in_step(bus_address: str) -> None:
    registry = FakeRegistry()

    async def session(bus: MessageBus) -> None:
        await call(bus, "CreateVolume", "vol0", SETTINGS)

    run(registry, bus_address, session)
    assert registry.settings["vol0"]["mirror"] == "sync"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (SETTINGS | {"primary": Variant("u", 3)}, "primary=3 cannot be used: it must be a text"),
        (SETTINGS | {"colour": Variant("s", "x")}, "there is no such setting"),
        ({"primary": Variant("s", "/dev/p")}, "backup= cannot be used: it is required"),
        (SETTINGS | {"primary": Variant("s", "")}, "primary= cannot be used: it is required"),
        (SETTINGS | {"mirror": Variant("s", "x")}, "it must be one of sync, async, strict"),
        (SETTINGS | {"link_up": Variant("as", ["/bin/a"])}, "there is no such setting"),
        (SETTINGS | {"portals": Variant("s", "h")}, "it must be a list of texts"),
        (SETTINGS | {"portals": Variant("as", ["h"] * 9)}, "there may be 8 at most"),
        (SETTINGS | {"sessions": Variant("u", 0)}, "it must be a number from 1 to 16"),
        (SETTINGS | {"source_address": Variant("s", "host")}, "it is not an IP address"),
    ],
)
def test_create_volume_with_bad_setting_is_refused(
    bus_address: str, settings: dict[str, Variant], sentence: str
) -> None:
    registry = FakeRegistry()

    async def session(bus: MessageBus) -> None:
        reply = await call(bus, "CreateVolume", "vol0", settings)
        assert reply.error_name == "org.tcmu_restore.Error.BadSetting"
        assert sentence in reply.body[0]

    run(registry, bus_address, session)
    assert not registry.volumes


def test_status_and_list_answer_what_the_registry_says(bus_address: str) -> None:
    registry = FakeRegistry()
    registry.volumes = {"b": make_status("b"), "a": make_status("a")}

    async def session(bus: MessageBus) -> None:
        assert (await call(bus, "ListVolumes")).body == [["a", "b"]]
        reply = await call(bus, "Status", "a")
        assert json.loads(reply.body[0]) == make_status("a")

    run(registry, bus_address, session)


def test_every_verb_reaches_the_registry(bus_address: str) -> None:
    registry = FakeRegistry()
    registry.volumes = {"a": make_status("a", resync=dict(RESYNC))}

    async def session(bus: MessageBus) -> None:
        extents = Variant("a(tt)", [[4096, 8192]])
        settings = {"credentials": Variant("s", "/f"), "extents": extents}
        replies = [await call(bus, "AttachSnapshot", "a", "/dev/s", settings)]
        replies.append(await call(bus, "ReplacePrimary", "a", "/dev/q"))
        verbs = ("MergeStart", "MergePause", "MergeResume", "MergeCancel", "PrepareSnapshot")
        more = ("ResyncPause", "ResyncResume", "LinkDown", "DetachSnapshot", "DeleteVolume")
        replies += [await call(bus, member, "a") for member in (*verbs, *more)]
        assert {reply.message_type for reply in replies} == {MessageType.METHOD_RETURN}

    run(registry, bus_address, session)
    assert registry.calls == [
        ("attach", "a", "/dev/s", "/f", "[(4096, 8192)]"),
        ("replace_primary", "a", "/dev/q"),
        ("merge_start", "a"),
        ("merge_pause", "a"),
        ("merge_resume", "a"),
        ("merge_cancel", "a"),
        ("prepare_snapshot", "a"),
        ("resync_pause", "a"),
        ("resync_resume", "a"),
        ("link_down", "a"),
        ("detach", "a"),
        ("delete", "a"),
    ]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"link_up": Variant("s", "/bin/a b")}, "it must be a list of texts"),
        ({"sessions": Variant("t", 1)}, "it must be a number (D-Bus type u)"),
        ({"password": Variant("s", "x")}, "there is no such setting"),
    ],
)
def test_setting_of_the_link_that_is_none_is_refused(
    bus_address: str, settings: dict[str, Variant], sentence: str
) -> None:
    registry = FakeRegistry()

    async def session(bus: MessageBus) -> None:
        reply = await call(bus, "AttachSnapshot", "a", "iscsi://s/iqn.a/0", settings)
        assert reply.message_type is MessageType.ERROR
        assert sentence in reply.body[0]

    run(registry, bus_address, session)
    assert registry.calls == []


@pytest.mark.parametrize(
    ("member", "settings", "noted"),
    [
        ("DeclareLost", {}, ("declare_lost", "a", "0", "None", "False")),
        (
            "DeclareLost",
            {
                "offset": Variant("t", 4096),
                "length": Variant("t", 8192),
                "force": Variant("b", value=True),
            },
            ("declare_lost", "a", "4096", "8192", "True"),
        ),
        ("AcceptOutdated", {}, ("accept_outdated", "a", "0", "None")),
        (
            "AcceptOutdated",
            {"offset": Variant("t", 4096), "length": Variant("t", 4096)},
            ("accept_outdated", "a", "4096", "4096"),
        ),
    ],
)
def test_extent_reaches_the_registry_and_the_number_of_regions_comes_back(
    bus_address: str, member: str, settings: dict[str, Variant], noted: tuple[str, ...]
) -> None:
    registry = FakeRegistry()
    registry.volumes["a"] = make_status("a", outdated_extents=[[4096, 4096]])
    registry.volumes["a"]["regions"]["outdated"] = 1
    expected = {"declare_lost": SIZE // 4096 if not settings else 2, "accept_outdated": 1}

    async def session(bus: MessageBus) -> None:
        reply = await call(bus, member, "a", settings)
        assert (reply.signature, reply.body) == ("t", [expected[noted[0]]])

    run(registry, bus_address, session)
    assert registry.calls == [noted]


@pytest.mark.parametrize(
    ("member", "settings", "sentence"),
    [
        ("DeclareLost", {"length": Variant("t", 0)}, "length=0 cannot be used: it must be at"),
        ("AcceptOutdated", {"length": Variant("t", 0)}, "length=0 cannot be used: it must be at"),
        ("DeclareLost", {"offset": Variant("i", 1)}, "it must be a number of bytes"),
        ("AcceptOutdated", {"force": Variant("b", value=True)}, "there is no such setting"),
    ],
)
def test_extent_that_is_none_is_refused(
    bus_address: str, member: str, settings: dict[str, Variant], sentence: str
) -> None:
    registry = FakeRegistry()

    async def session(bus: MessageBus) -> None:
        reply = await call(bus, member, "a", settings)
        assert reply.error_name == "org.tcmu_restore.Error.BadSetting"
        assert sentence in reply.body[0]

    run(registry, bus_address, session)
    assert registry.calls == []


def test_rebuild_state_answers_what_was_salvaged(bus_address: str) -> None:
    registry = FakeRegistry()
    registry.volumes["a"] = make_status("a")

    async def session(bus: MessageBus) -> None:
        reply = await call(bus, "RebuildState", "a")
        assert reply.signature == "s"
        assert reply.body[0].startswith("The counters were salvaged.")

    run(registry, bus_address, session)


def test_replace_primary_by_nothing_is_refused(bus_address: str) -> None:
    registry = FakeRegistry()

    async def session(bus: MessageBus) -> None:
        reply = await call(bus, "ReplacePrimary", "a", "")
        assert "primary= cannot be used: it is required" in reply.body[0]

    run(registry, bus_address, session)
    assert registry.calls == []


def test_error_of_ours_becomes_its_name_and_sentence(bus_address: str) -> None:
    async def session(bus: MessageBus) -> None:
        reply = await call(bus, "MergeStart", "none")
        assert reply.error_name == "org.tcmu_restore.Error.UnknownVolume"
        assert reply.body[0].startswith("There is no volume 'none'")

    run(FakeRegistry(), bus_address, session)


def test_unexpected_error_is_internal_and_logged_with_its_traceback(
    bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = FakeRegistry()
    registry.failures["merge_start"] = ZeroDivisionError("by naught")

    async def session(bus: MessageBus) -> None:
        reply = await call(bus, "MergeStart", "a")
        assert reply.error_name == INTERNAL_ERROR
        assert "naught" not in reply.body[0]

    with caplog.at_level(logging.ERROR):
        run(registry, bus_address, session)
    assert "Traceback" in caplog.text
    assert "ZeroDivisionError: by naught" in caplog.text
    assert "volume=a operation=MergeStart" in caplog.text


def test_caller_that_is_not_allowed_is_refused_before_anything_happens(bus_address: str) -> None:
    registry = FakeRegistry()

    async def session(bus: MessageBus) -> None:
        for member, body in (("ListVolumes", ()), ("CreateVolume", ("v", SETTINGS))):
            reply = await call(bus, member, *body)
            assert reply.error_name == ACCESS_DENIED

    run(registry, bus_address, session, uids={os.getuid() + 1})
    assert registry.calls == []


def test_call_without_interface_is_checked_as_well(bus_address: str) -> None:
    registry = FakeRegistry()

    async def session(bus: MessageBus) -> None:
        reply = await call(bus, "ListVolumes", interface=None)
        assert reply.error_name == ACCESS_DENIED

    run(registry, bus_address, session, uids=())
    assert registry.calls == []


@pytest.mark.parametrize(
    "changes", [{"member": "Explode"}, {"signature": "u", "body": [1]}, {"path": "/elsewhere"}]
)
def test_unknown_method_signature_or_path_is_an_error(
    bus_address: str, changes: dict[str, Any]
) -> None:
    async def session(bus: MessageBus) -> None:
        reply = await call(bus, "ListVolumes", **changes)
        assert reply.message_type is MessageType.ERROR
        assert (reply.error_name or "").startswith("org.freedesktop.DBus.Error.Unknown")

    run(FakeRegistry(), bus_address, session)


def test_call_that_wants_no_reply_is_carried_out(bus_address: str) -> None:
    registry = FakeRegistry()
    registry.volumes = {"a": make_status("a")}

    async def session(bus: MessageBus) -> None:
        await bus.send(message("DeleteVolume", "a", flags=MessageFlag.NO_REPLY_EXPECTED))
        assert (await call(bus, "ListVolumes")).body == [[]]

    run(registry, bus_address, session)


def test_state_change_is_broadcast(bus_address: str) -> None:
    registry = FakeRegistry()
    seen: list[list[Any]] = []

    async def session(bus: MessageBus) -> None:
        came = asyncio.Event()

        def handler(message: Message) -> bool:
            if message.member == "StateChanged":
                seen.append(message.body)
                came.set()
            return False

        bus.add_message_handler(handler)
        await bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=[f"type='signal',interface='{DBUS_MANAGER}'"],
            )
        )
        registry.on_change("vol0", "in_sync")
        await came.wait()

    run(registry, bus_address, session)
    assert seen == [["vol0", "in_sync"]]
    registry.on_change("vol0", "failed")  # after close() it is silence, not an error


@pytest.mark.parametrize(
    ("path", "child"), [("/", "org"), ("/org", "tcmu_restore"), (DBUS_PATH, None)]
)
def test_introspection_describes_the_contract(
    bus_address: str, path: str, child: str | None
) -> None:
    documents: list[str] = []

    async def session(bus: MessageBus) -> None:
        reply = await call(
            bus,
            "Introspect",
            path=path,
            interface="org.freedesktop.DBus.Introspectable",
            signature="",
        )
        documents.append(reply.body[0])

    run(FakeRegistry(), bus_address, session)
    root = ElementTree.fromstring(documents[0])
    signals = {signal.get("name") for signal in root.iter("signal")}
    assert signals == (set() if child else {"StateChanged"})
    children = [node.get("name") for node in root.findall("node")]
    assert children == [child or "volume"]
    if child is not None:
        return
    methods = root.findall(f"interface[@name='{DBUS_MANAGER}']/method")
    signatures = {
        method.get("name"): "".join(
            str(arg.get("type")) for arg in method.findall("arg[@direction='in']")
        )
        for method in methods
    }
    assert signatures == {method.member: method.in_signature for method in METHODS.values()}


def test_slow_call_does_not_hold_up_the_next_and_ends_with_the_service(bus_address: str) -> None:
    registry = FakeRegistry()
    ended: list[str] = []

    async def never(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    registry.delete_volume = never  # type: ignore[method-assign]

    async def session(bus: MessageBus) -> None:
        await bus.send(message("DeleteVolume", "a"))
        assert (await call(bus, "ListVolumes")).body == [[]]

    run(registry, bus_address, session)
    assert ended == ["a"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_serve_without_a_bus_says_so(tmp_path: os.PathLike[str]) -> None:
    address = f"unix:path={os.fspath(tmp_path)}/nothing"
    with pytest.raises(ServiceUnavailableError, match="no message bus"):
        asyncio.run(serve(FakeRegistry(), address))
    gc.collect()  # dbus-fast before 5.0 leaves the socket that could not connect to the collector


def test_serve_while_another_process_owns_the_name_says_so(bus_address: str) -> None:
    async def session(_bus: MessageBus) -> None:
        with pytest.raises(ServiceUnavailableError, match="another process owns"):
            await serve(FakeRegistry(), bus_address)

    run(FakeRegistry(), bus_address, session)
