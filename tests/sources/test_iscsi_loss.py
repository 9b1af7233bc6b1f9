"""A real target that dies, freezes, comes back, or is another one."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.extent import Extent
from tcmu_restore.errors import (
    BlockSizeMismatchError,
    IdentityMismatchError,
    SizeMismatchError,
    SourceLoginError,
    SourceUnreachableError,
)
from tcmu_restore.options import IscsiOptions
from tcmu_restore.sources.base import SourceGeometry
from tcmu_restore.sources.credentials import Credentials
from tcmu_restore.sources.iscsi import IscsiStore
from tcmu_restore.sources.iscsi_url import parse_iscsi_url
from tcmu_restore.units import KiB, MiB
from tests.support import tgt
from tests.support.tgt import TgtTarget

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(tgt.MISSING), reason=tgt.MISSING or "none"),
]

SIZE = 16 * MiB
INITIATOR = "iqn.2024-01.test.example:initiator"
FAST = IscsiOptions(
    command_timeout_seconds=0.6,
    connect_timeout_seconds=2.0,
    reconnect_delay_seconds=0.02,
    reconnect_delay_max_seconds=0.1,
    keepalive_seconds=0.2,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tgt") as path:
        backing = Path(path) / "disk"
        backing.touch()
        os.truncate(backing, SIZE)
        yield Path(path)


@pytest.fixture
def target(folder: Path) -> Iterator[TgtTarget]:
    with TgtTarget(folder, folder / "disk") as running:
        yield running


class Changes:
    """Collects ``on_change`` and lets a test wait for it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bool] = asyncio.Queue()

    def __call__(self, is_reachable: bool) -> None:
        self._queue.put_nowait(is_reachable)

    async def wait_for(self, is_reachable: bool, seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while await self._queue.get() is not is_reachable:
                pass


def run(
    target: TgtTarget,
    check: Callable[[IscsiStore, Changes], Awaitable[None]],
    options: IscsiOptions = FAST,
    **settings: Any,
) -> None:
    async def main() -> None:
        changes = Changes()
        store = IscsiStore(
            parse_iscsi_url(target.url),
            initiator=INITIATOR,
            options=options,
            on_change=changes,
            **settings,
        )
        store.start()
        try:
            await asyncio.wait_for(check(store, changes), 60)
        finally:
            await store.close()

    asyncio.run(main())


async def read(store: IscsiStore, offset: int, length: int) -> bytes:
    data = bytearray(length)
    await store.read_into(offset, buffers_of(data))
    return bytes(data)


def test_target_killed_under_load_fails_calls_and_is_used_again(target: TgtTarget) -> None:
    async def check(store: IscsiStore, changes: Changes) -> None:
        await store.wait_ready(5)
        await changes.wait_for(True)
        chooser = random.Random(3)

        async def load() -> str:
            data = chooser.randbytes(4096)
            try:
                while True:
                    offset = chooser.randrange(SIZE // 4096) * 4096
                    await store.write(offset, buffers_of(data))
                    await store.read_into(offset, buffers_of(bytearray(4096)))
            except SourceUnreachableError as error:
                return str(error)

        loads = [asyncio.create_task(load()) for _ in range(64)]
        while store.statistics.written_commands < 500:
            await store.read_into(0, buffers_of(bytearray(512)))
        epoch = store.epoch
        target.kill()
        async with asyncio.timeout(FAST.command_timeout_seconds + 2):
            await asyncio.gather(*loads)
        with pytest.raises(SourceUnreachableError):
            await store.read_into(0, buffers_of(bytearray(512)))
        target.start()
        await changes.wait_for(True)
        assert store.is_reachable
        assert store.epoch > epoch
        assert await store.write(0, buffers_of(b"again" + bytes(507))) == store.epoch
        assert (await read(store, 0, 512)).startswith(b"again")

    run(target, check)


def test_store_started_before_its_target_becomes_ready(folder: Path) -> None:
    target = TgtTarget(folder, folder / "disk")

    async def check(store: IscsiStore, changes: Changes) -> None:
        with pytest.raises(SourceUnreachableError, match="refused"):
            await store.wait_ready(0.3)
        with pytest.raises(SourceUnreachableError):
            _ = store.geometry
        with target:
            await changes.wait_for(True)
            assert store.geometry.size == SIZE
            assert await read(store, 0, 512) == bytes(512)

    run(target, check)


def test_known_geometry_is_told_while_unreachable(folder: Path) -> None:
    expected = SourceGeometry(SIZE, 512, "naa.x")

    async def check(store: IscsiStore, _: Changes) -> None:
        assert store.geometry is expected
        assert not store.is_reachable

    run(TgtTarget(folder, folder / "disk"), check, expected=expected)


@pytest.mark.parametrize("length", [4 * KiB, 1 * MiB])
def test_frozen_target_fails_calls_in_time_and_never_touches_their_memory(
    target: TgtTarget, length: int
) -> None:
    async def check(store: IscsiStore, changes: Changes) -> None:
        await store.wait_ready(5)
        await store.write(0, buffers_of(b"d" * (8 * MiB)))
        await changes.wait_for(True)
        await store.read_into(0, buffers_of(bytearray(length)))
        target.freeze()
        buffers = [bytearray(b"\xaa" * length) for _ in range(8)]
        calls = [store.read_into(0, buffers_of(buffer)) for buffer in buffers]
        started = asyncio.get_running_loop().time()
        results = await asyncio.gather(*calls, return_exceptions=True)
        seconds = asyncio.get_running_loop().time() - started
        assert all(isinstance(result, SourceUnreachableError) for result in results)
        assert seconds < FAST.command_timeout_seconds + 3
        assert store.epoch == 1
        for buffer in buffers:
            buffer[:] = b"\xbb" * length  # reused for something else
        target.thaw()
        await changes.wait_for(False)
        await changes.wait_for(True)
        assert await read(store, 0, 4096) == b"d" * 4096
        assert all(buffer == b"\xbb" * length for buffer in buffers)

    run(target, check)


def test_silent_idle_target_is_noticed_by_keepalive(target: TgtTarget) -> None:
    options = IscsiOptions(
        command_timeout_seconds=30, reconnect_delay_seconds=0.02, keepalive_seconds=0.1
    )

    async def check(store: IscsiStore, changes: Changes) -> None:
        await changes.wait_for(True)
        target.freeze()
        await changes.wait_for(False, seconds=5)
        assert store.last_error is not None
        assert "keepalive" in str(store.last_error)
        target.thaw()
        await changes.wait_for(True)

    run(target, check, options)


def test_idle_session_is_kept(target: TgtTarget) -> None:
    options = IscsiOptions(keepalive_seconds=0.05)

    async def check(store: IscsiStore, changes: Changes) -> None:
        await changes.wait_for(True)
        with pytest.raises(TimeoutError):
            await changes.wait_for(False, seconds=1)
        assert store.epoch == 0

    run(target, check, options)


def test_several_sessions_share_the_load_and_one_loss_is_a_loss(target: TgtTarget) -> None:
    options = IscsiOptions(sessions=3, queue_depth=4, reconnect_delay_seconds=0.02)

    async def check(store: IscsiStore, changes: Changes) -> None:
        await store.wait_ready(5)
        while store.session_count < 3:
            await read(store, 0, 512)
        data = {offset: random.randbytes(4096) for offset in range(0, 4 * MiB, 4096)}
        await asyncio.gather(
            *(store.write(offset, buffers_of(block)) for offset, block in data.items())
        )
        found = await asyncio.gather(*(read(store, offset, 4096) for offset in data))
        assert found == list(data.values())
        assert await store.flush() == 0
        target.kill()
        await changes.wait_for(False)
        target.start()
        await changes.wait_for(True)
        assert store.epoch == 3

    run(target, check, options)


def test_header_digest_is_negotiated(target: TgtTarget) -> None:
    async def check(store: IscsiStore, _: Changes) -> None:
        await store.wait_ready(5)
        data = random.randbytes(3 * MiB)
        await store.write(512, buffers_of(data))
        assert await read(store, 512, len(data)) == data

    run(target, check, IscsiOptions(header_digest=True))


def test_chap_with_right_wrong_and_no_secret(folder: Path) -> None:
    with TgtTarget(folder, folder / "disk", chap=("me", "opensesame12")) as target:

        async def accepted(store: IscsiStore, _: Changes) -> None:
            await store.wait_ready(5)

        async def refused(store: IscsiStore, _: Changes) -> None:
            with pytest.raises(SourceLoginError) as caught:
                await store.wait_ready(5)
            assert "credentials" in str(caught.value)
            assert "wrong" not in str(caught.value)

        run(target, accepted, credentials=Credentials("me", "opensesame12"))
        run(target, refused, credentials=Credentials("me", "wrongsecret12"))
        run(target, refused)


def test_mutual_chap_refuses_a_target_that_cannot_prove_itself(folder: Path) -> None:
    us, it = ("me", "opensesame12"), ("it", "answer123456")
    with TgtTarget(folder, folder / "disk", chap=us, mutual=it) as target:

        async def accepted(store: IscsiStore, _: Changes) -> None:
            await store.wait_ready(5)

        async def refused(store: IscsiStore, _: Changes) -> None:
            with pytest.raises(SourceLoginError):
                await store.wait_ready(5)

        good = Credentials("me", "opensesame12", "it", "answer123456")
        run(target, accepted, credentials=good)
        bad = Credentials("me", "opensesame12", "it", "otheranswer1")
        run(target, refused, credentials=bad)


def test_environment_has_no_influence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBISCSI_CHAP_USERNAME", "me")
    monkeypatch.setenv("LIBISCSI_CHAP_PASSWORD", "opensesame12")
    with TgtTarget(folder, folder / "disk", chap=("me", "opensesame12")) as target:

        async def refused(store: IscsiStore, _: Changes) -> None:
            with pytest.raises(SourceLoginError):
                await store.wait_ready(5)

        run(target, refused)


def test_unknown_iqn_is_a_login_error(target: TgtTarget) -> None:
    target.iqn += "x"

    async def check(store: IscsiStore, _: Changes) -> None:
        with pytest.raises(SourceLoginError, match="not found"):
            await store.wait_ready(5)

    run(target, check)
    target.iqn = target.iqn[:-1]


@pytest.mark.parametrize(("lun", "reason"), [(0, "not a disk"), (9, "no such LUN")])
def test_lun_that_is_no_disk_is_unreachable(target: TgtTarget, lun: int, reason: str) -> None:
    async def check() -> None:
        url = parse_iscsi_url(target.url.removesuffix("1") + str(lun))
        store = IscsiStore(url, initiator=INITIATOR, options=FAST)
        store.start()
        with pytest.raises(SourceUnreachableError, match=reason):
            await store.wait_ready(0.5)
        await store.close()

    asyncio.run(check())


def test_another_disk_after_a_loss_is_refused(target: TgtTarget) -> None:
    async def check(store: IscsiStore, changes: Changes) -> None:
        await store.wait_ready(5)
        target.kill()
        await changes.wait_for(False)
        target.identity = "disk2"
        target.start()
        with pytest.raises(IdentityMismatchError):
            await store.wait_ready(5)
        assert not store.is_reachable
        with pytest.raises(SourceUnreachableError, match="was recorded"):
            await store.read_into(0, buffers_of(bytearray(512)))
        target.kill()
        target.identity = "disk1"
        target.start()
        await changes.wait_for(True)

    run(target, check)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"size": SIZE * 2}, SizeMismatchError),
        ({"block_size": 4096}, BlockSizeMismatchError),
        ({"identity": "naa.0"}, IdentityMismatchError),
    ],
)
def test_unexpected_lun_is_refused_at_the_first_login(
    target: TgtTarget, change: dict[str, Any], error: type[Exception]
) -> None:
    found: list[SourceGeometry] = []

    async def look(store: IscsiStore, _: Changes) -> None:
        await store.wait_ready(5)
        found.append(store.geometry)

    async def check(store: IscsiStore, _: Changes) -> None:
        with pytest.raises(error):
            await store.wait_ready(5)

    run(target, look)
    true = found[0]
    values = {"size": true.size, "block_size": true.block_size, "identity": true.identity}
    run(target, check, expected=SourceGeometry(**{**values, **change}))


def test_read_only_store_sends_no_write(target: TgtTarget) -> None:
    async def check(store: IscsiStore, _: Changes) -> None:
        await store.wait_ready(5)
        calls = [store.write(0, buffers_of(bytes(512))), store.zero(Extent(0, 512)), store.flush()]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert "data protect" in str(error)

    run(target, check, read_only=True)


def test_host_name_is_resolved(target: TgtTarget) -> None:
    async def check() -> None:
        url = parse_iscsi_url(target.url.replace("127.0.0.1", "localhost"))
        store = IscsiStore(url, initiator=INITIATOR, options=FAST)
        store.start()
        await store.wait_ready(10)
        await store.close()

    asyncio.run(check())


def test_unknown_host_name_is_unreachable() -> None:
    async def check() -> None:
        url = parse_iscsi_url("iscsi://no-such-host.invalid/iqn.2024-01.x:y/0")
        store = IscsiStore(url, initiator=INITIATOR, options=FAST)
        store.start()
        with pytest.raises(SourceUnreachableError, match="resolved"):
            await store.wait_ready(3)
        await store.close()

    asyncio.run(check())


def test_statistics_count_what_moved(target: TgtTarget) -> None:
    async def check(store: IscsiStore, _: Changes) -> None:
        await store.wait_ready(5)
        await store.write(0, buffers_of(bytes(3 * MiB)))
        await read(store, 0, 2 * MiB)
        counted = store.statistics
        assert (counted.written_bytes, counted.read_bytes) == (3 * MiB, 2 * MiB)
        assert (counted.written_commands, counted.read_commands) == (3, 2)
        assert 0 < counted.latency_seconds < 5

    run(target, check)
