"""Arguments of the D-Bus methods: each call does what it says or is refused in one sentence."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.engine.registry import VolumeRegistry
from tcmu_restore.errors import RestoreError
from tcmu_restore.options import DBUS_MANAGER, DBUS_NAME, DBUS_PATH
from tcmu_restore.service import bus as message_bus
from tcmu_restore.service.contract import (
    CREATE_SETTINGS,
    DECLARE_LOST_SETTINGS,
    ERROR_PREFIX,
    INTERNAL_ERROR,
    METHODS,
)
from tcmu_restore.service.interface import Manager
from tcmu_restore.service.server import serve
from tests.engine.rig import SIZE, Rig
from tests.service.private_bus import private_bus
from tests.support.tgt import MISSING

from .hostile import TOKENS, fuzzed, is_one_sentence

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

texts = st.one_of(
    st.sampled_from(["v", "v", "v", "", "x" * 70, "../v", "/dev/null", "/proc/self/mem", "/"]),
    st.sampled_from([token.decode("utf-8", "replace") for token in TOKENS]),
    st.sampled_from(["start", "pause", "cancel", "none", "backup", "y" * 100_000]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
).map(lambda text: text.replace("\0", "\N{REPLACEMENT CHARACTER}"))  # no D-Bus text holds one

sizes = st.one_of(st.sampled_from([0, 1, 511, 4096, SIZE, 2**63, 2**64 - 1]), st.integers(0, SIZE))
variants = st.one_of(
    texts.map(lambda text: Variant("s", text)),
    sizes.map(lambda size: Variant("t", size)),
    st.booleans().map(lambda flag: Variant("b", flag)),
    st.integers(0, 2**32 - 1).map(lambda number: Variant("u", number)),
    st.lists(texts, max_size=9).map(lambda words: Variant("as", words)),
    st.binary(max_size=9).map(lambda data: Variant("ay", data)),
)
settings = st.dictionaries(
    st.one_of(st.sampled_from([*CREATE_SETTINGS, *DECLARE_LOST_SETTINGS]), texts),
    variants,
    max_size=4,
)
BY_SIGNATURE: dict[str, st.SearchStrategy[Any]] = {
    "s": texts,
    "u": st.integers(0, 2**32 - 1),
    "b": st.booleans(),
    "t": sizes,
    "a{sv}": settings,
}
assert {kind for method in METHODS.values() for _, kind in method.arguments} <= set(BY_SIGNATURE)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[Any]]:
    method = METHODS[draw(st.sampled_from(sorted(METHODS)))]
    return method.member, [draw(BY_SIGNATURE[signature]) for _, signature in method.arguments]


def test_any_argument_of_any_method_on_a_running_volume() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tr"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        runner = stack.enter_context(asyncio.Runner())
        rig = Rig(folder, stack)
        runner.run(rig.create())
        engine = runner.run(rig.registry.open_volume("v", SIZE, 512))
        stack.callback(lambda: runner.run(rig.registry.close()))
        manager = Manager(rig.registry)

        async def one(member: str, arguments: list[Any]) -> RestoreError | None:
            try:
                await asyncio.wait_for(manager.call(member, arguments), 30)
            except RestoreError as error:
                return error
            return None

        @fuzzed
        @given(calls())
        def check(call: tuple[str, list[Any]]) -> None:
            error = runner.run(one(*call))
            assert error is None or is_one_sentence(error), repr(str(error))
            assert engine.mistake is None

        check()
        assert rig.registry.list_volumes() == ["v"]


bodies = st.lists(st.one_of(texts, st.integers(0, 2**31), settings), max_size=4)


def _signature(body: list[Any]) -> str:
    kinds = {str: "s", int: "u", dict: "a{sv}"}
    return "".join(kinds[type(item)] for item in body)


def test_any_body_of_any_call_over_the_bus(tmp_path: Path) -> None:
    """Also what the contract does not know: an error of D-Bus', and the service goes on."""

    async def ask(bus: MessageBus, member: str, body: list[Any]) -> str:
        message = Message(
            destination=DBUS_NAME,
            path=DBUS_PATH,
            interface=DBUS_MANAGER,
            member=member,
            signature=_signature(body),
            body=body,
        )
        reply = await asyncio.wait_for(bus.call(message), 10)
        assert reply is not None
        if reply.message_type is not MessageType.ERROR:
            return ""
        if (reply.error_name or "").startswith(ERROR_PREFIX):
            assert str(reply.body[0]).isprintable()
        return reply.error_name or ""

    registry = VolumeRegistry(tmp_path / "etc", tmp_path / "var")
    with private_bus(tmp_path) as address, asyncio.Runner() as runner:
        server = runner.run(serve(registry, address))
        client = runner.run(message_bus.connect(address))

        @fuzzed
        @given(st.sampled_from(sorted(METHODS)), bodies)
        def check(member: str, body: list[Any]) -> None:
            assert runner.run(ask(client, member, body)) != INTERNAL_ERROR

        check()
        assert runner.run(ask(client, "ListVolumes", [])) == ""
        runner.run(message_bus.disconnect(client))
        runner.run(server.close())
