"""Which way a session takes: portals in turn, a source address, an interface."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.errors import BadSettingError, SourceUnreachableError
from tcmu_restore.options import IscsiOptions
from tcmu_restore.sources.iscsi import IscsiStore
from tcmu_restore.sources.iscsi_url import IscsiUrl, parse_iscsi_url, parse_portal
from tcmu_restore.units import MiB
from tests.support import tgt
from tests.support.tgt import TgtTarget

INITIATOR = "iqn.2024-01.test.example:initiator"
FAST = IscsiOptions(
    command_timeout_seconds=1.0,
    connect_timeout_seconds=1.0,
    reconnect_delay_seconds=0.02,
    reconnect_delay_max_seconds=0.1,
    keepalive_seconds=0.2,
)

needs_target = pytest.mark.skipif(bool(tgt.MISSING), reason=tgt.MISSING or "none")


@pytest.fixture
def target() -> Iterator[TgtTarget]:
    with tempfile.TemporaryDirectory(prefix="tgt") as path:
        backing = Path(path) / "disk"
        backing.write_bytes(os.urandom(MiB))
        with TgtTarget(Path(path), backing) as running:
            yield running


def dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def connected(url: IscsiUrl, options: IscsiOptions) -> IscsiStore:
    store = IscsiStore(url, initiator=INITIATOR, options=options)
    store.start()
    try:
        await store.wait_ready(5)
        memory = bytearray(4096)
        await store.read_into(0, buffers_of(memory))
    except BaseException:
        await store.close()
        raise
    return store


def local_address(store: IscsiStore) -> str:
    session = store._links[0].session
    assert session is not None
    with socket.socket(fileno=os.dup(session._fd)) as one:
        return str(one.getsockname()[0])


@needs_target
def test_next_portal_is_tried_when_the_first_is_dead(target: TgtTarget) -> None:
    async def main() -> None:
        url = replace(parse_iscsi_url(target.url), port=dead_port())
        portals = (("127.0.0.1", dead_port()), ("127.0.0.1", target.port))
        store = await connected(url, replace(FAST, portals=portals))
        # the one that works is tried first from now on
        assert store._links[0]._portals[0] == ("127.0.0.1", target.port)
        await store.close()

    asyncio.run(main())


@needs_target
def test_lost_writes_keep_another_portal_waiting(target: TgtTarget) -> None:
    """A target may end the old session only for a login to the same portal group."""

    async def main() -> None:
        portals = (("127.0.0.2", target.port),)
        store = IscsiStore(
            parse_iscsi_url(target.url),
            initiator=INITIATOR,
            options=replace(FAST, portals=portals, command_timeout_seconds=0.2),
        )
        link = store._links[0]
        link.is_unsettled = link._is_moved = True
        link._lost_at = asyncio.get_running_loop().time() - 4.8
        began = asyncio.get_running_loop().time()
        store.start()
        await store.wait_ready(5)
        assert asyncio.get_running_loop().time() - began >= 0.4
        await store.close()

    asyncio.run(main())


@needs_target
def test_source_address_is_the_one_that_was_set(target: TgtTarget) -> None:
    async def main() -> None:
        url = parse_iscsi_url(target.url)
        for address in ("127.0.0.1", "127.0.0.77"):
            store = await connected(url, replace(FAST, source_address=address))
            assert local_address(store) == address
            await store.close()

    asyncio.run(main())


@needs_target
def test_interface_is_the_one_that_was_set(target: TgtTarget) -> None:
    async def main() -> None:
        store = await connected(parse_iscsi_url(target.url), replace(FAST, interface="lo"))
        session = store._links[0].session
        assert session is not None
        with socket.socket(fileno=os.dup(session._fd)) as one:
            bound = one.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        assert bound.rstrip(b"\0") == b"lo"
        await store.close()

    asyncio.run(main())


@needs_target
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            replace(FAST, interface="nosuch0"),
            "it cannot be reached over the interface nosuch0: No such device",
        ),
        (
            replace(FAST, source_address="192.0.2.99"),
            "it cannot be reached from the address 192.0.2.99: Cannot assign requested address",
        ),
    ],
)
def test_way_that_does_not_exist_is_said_and_not_replaced_by_another(
    target: TgtTarget, options: IscsiOptions, said: str
) -> None:
    async def main() -> None:
        store = IscsiStore(parse_iscsi_url(target.url), initiator=INITIATOR, options=options)
        store.start()
        with pytest.raises(SourceUnreachableError) as caught:
            await store.wait_ready(0.5)
        assert said in str(caught.value)
        await store.close()

    asyncio.run(main())


@needs_target
def test_disconnected_store_connects_again_when_it_is_started(target: TgtTarget) -> None:
    async def main() -> None:
        store = await connected(parse_iscsi_url(target.url), FAST)
        await store.disconnect()
        await store.disconnect()
        assert not store.is_reachable
        await asyncio.sleep(0.3)  # nothing tries meanwhile
        assert not store.is_reachable
        store.start()
        store.start()
        await store.wait_ready(5)
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "portal"),
    [
        ("192.0.2.1", ("192.0.2.1", 3260)),
        ("backup.example.org:3261", ("backup.example.org", 3261)),
        ("[2001:db8::1]:3262", ("2001:db8::1", 3262)),
    ],
)
def test_portal_is_parsed(text: str, portal: tuple[str, int]) -> None:
    assert parse_portal(text) == portal


@pytest.mark.parametrize("text", ["", "a b", "h:0", "h:65536", "[::1", "user@h", "2001:db8::1"])
def test_bad_portal_is_refused(text: str) -> None:
    with pytest.raises(BadSettingError, match="portals="):
        parse_portal(text)
