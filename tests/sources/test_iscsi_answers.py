"""What a LUN may answer on a bad day, and what becomes of the call."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.extent import Extent
from tcmu_restore.errors import (
    BadSettingError,
    SourceBusyError,
    SourceFlushError,
    SourceLoginError,
    SourceReadError,
    SourceUnreachableError,
    SourceWriteError,
)
from tcmu_restore.options import IscsiOptions
from tcmu_restore.sources import scsi
from tcmu_restore.sources.base import ExtentKind
from tcmu_restore.sources.iscsi import IscsiStore
from tcmu_restore.sources.iscsi_url import parse_iscsi_url
from tests.sources.scripted_target import BLOCK, Answer, Reply, ScriptedTarget, until

INITIATOR = "iqn.2024-01.test.example:initiator"
FAST = IscsiOptions(
    command_timeout_seconds=0.5,
    connect_timeout_seconds=2.0,
    reconnect_delay_seconds=0.02,
    reconnect_delay_max_seconds=0.1,
    keepalive_seconds=5,
)
Check = Callable[[IscsiStore, ScriptedTarget], Awaitable[None]]


def run(
    check: Check,
    *,
    options: IscsiOptions = FAST,
    prepare: Callable[[ScriptedTarget], None] = lambda _: None,
    is_ready: bool = True,
    **settings: Any,
) -> None:
    async def main() -> None:
        async with ScriptedTarget() as target:
            prepare(target)
            store = IscsiStore(
                parse_iscsi_url(target.url), initiator=INITIATOR, options=options, **settings
            )
            store.start()
            try:
                if is_ready:
                    await store.wait_ready(5)
                await asyncio.wait_for(check(store, target), 30)
            finally:
                await store.close()

    asyncio.run(main())


def sense(key: int, code: int) -> Answer:
    return lambda _cdb, _data: Reply(sense=(key, code))


def status(number: int) -> Answer:
    return lambda _cdb, _data: Reply(status=number)


async def read(store: IscsiStore, offset: int = 0, length: int = 4096) -> bytes:
    data = bytearray(length)
    await store.read_into(offset, buffers_of(data))
    return bytes(data)


PASSING = {
    "busy": status(scsi.STATUS_BUSY),
    "task-set-full": status(scsi.STATUS_TASK_SET_FULL),
    "task-aborted": status(scsi.STATUS_TASK_ABORTED),
    "not-ready": sense(2, 0x0401),
    "aborted-command": sense(0xB, 0x4700),
    "unit-attention": sense(6, 0x2800),
}


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
def test_passing_trouble_is_retried(answer: Answer) -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.disk[:4096] = b"r" * 4096
        target.always(scsi.READ_16, answer, 3)
        assert await read(store) == b"r" * 4096
        target.always(scsi.WRITE_16, answer, 3)
        assert await store.write(0, buffers_of(b"w" * 4096)) == 0
        assert target.disk[:4096] == b"w" * 4096
        assert store.statistics.retried_commands == 6
        assert store.epoch == 0

    run(check)


def test_lasting_busy_ends_with_busy_error_in_time() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.READ_16, status(scsi.STATUS_BUSY), 1000)
        started = asyncio.get_running_loop().time()
        with pytest.raises(SourceBusyError, match="busy"):
            await read(store)
        assert asyncio.get_running_loop().time() - started < 3

    run(check)


def test_reset_attention_grows_the_epoch_and_the_write_is_sent_again() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        before = await store.write(0, buffers_of(b"1" * 512))
        target.always(scsi.WRITE_16, sense(6, 0x2900))
        after = await store.write(512, buffers_of(b"2" * 512))
        assert (before, after) == (0, 1)
        assert await store.flush() == 1  # so the first write is not known to be durable
        assert target.disk[:1024] == b"1" * 512 + b"2" * 512

    run(check)


def test_reset_attention_during_a_flush_grows_its_answer() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.SYNCHRONIZE_CACHE_16, sense(6, 0x2901))
        assert await store.write(0, buffers_of(bytes(512))) == 0
        assert await store.flush() == 1

    run(check)


def test_changed_lun_is_examined_again() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.READ_16, sense(6, 0x2A09))
        with pytest.raises(SourceUnreachableError):
            await read(store)
        await until(lambda: len(target.isids) == 2)  # a second login
        await store.wait_ready(5)
        assert await read(store) == bytes(4096)
        assert store.epoch == 1

    run(check)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (sense(3, 0x1100), r"medium error \(11/00\)"),
        (sense(4, 0x4400), r"hardware error \(44/00\)"),
        (sense(5, 0x2100), r"illegal request \(21/00\)"),
        (sense(7, 0x2700), r"data protect \(27/00\)"),
        (status(0x30), "SCSI status 0x30"),
    ],
)
def test_lasting_trouble_fails_with_its_code(answer: Answer, name: str) -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.READ_16, answer)
        with pytest.raises(SourceReadError, match=name):
            await read(store)
        target.always(scsi.WRITE_16, answer)
        with pytest.raises(SourceWriteError, match=name):
            await store.write(0, buffers_of(bytes(4096)))
        target.always(scsi.SYNCHRONIZE_CACHE_16, answer)
        with pytest.raises(SourceFlushError, match=name):
            await store.flush()
        assert store.is_reachable
        assert store.statistics.failed_commands == 3

    run(check)


def test_reservation_of_another_initiator_is_busy_at_once() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.WRITE_16, status(scsi.STATUS_RESERVATION_CONFLICT))
        with pytest.raises(SourceBusyError, match="reserved"):
            await store.write(0, buffers_of(bytes(512)))

    run(check)


def test_recovered_error_is_good() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.SYNCHRONIZE_CACHE_16, sense(1, 0x1700))
        assert await store.flush() == 0

    run(check)


def test_device_without_cache_command_is_flushed() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.SYNCHRONIZE_CACHE_16, sense(5, 0x2000))
        assert await store.flush() == 0

    run(check)


def test_short_answer_is_a_read_error() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.READ_16, lambda _cdb, _data: Reply(b"x" * 1000))
        with pytest.raises(SourceReadError, match="3096 bytes are missing"):
            await read(store)

    run(check)


def test_first_error_of_a_cut_call_waits_for_all_pieces() -> None:
    def prepare(target: ScriptedTarget) -> None:
        target.pages[0xB0] = bytes(8) + (8).to_bytes(4, "big") + bytes(52)

    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.READ_16, sense(3, 0x1100))
        target.always(scsi.READ_16, lambda _cdb, _data: None)
        call = store.read_into(0, buffers_of(bytearray(2 * 4096)))
        await asyncio.wait_for(target.seen.wait(), 5)
        await read(store, 65536, 512)
        assert not call.done()
        writer, header, _, _ = target.unanswered.pop()
        target.answer(writer, header, Reply(bytes(4096)))
        with pytest.raises(SourceReadError):
            await call

    run(check, prepare=prepare, options=IscsiOptions())


def test_unsupported_write_same_becomes_writes() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.disk[:] = b"z" * len(target.disk)
        target.always(scsi.WRITE_SAME_16, sense(5, 0x2000))
        await store.zero(Extent(512, 4096))
        assert target.disk[:5120] == b"z" * 512 + bytes(4096) + b"z" * 512
        target.commands.clear()
        await store.zero(Extent(8192, 512))
        assert [cdb[0] for cdb in target.commands] == [scsi.WRITE_16]

    run(check)


def thin(target: ScriptedTarget, granularity: int = 8) -> None:
    """Make it a thin LUN that reads zeros where unmapped."""
    target.provisioning = 0xC0
    target.pages[0xB0] = bytes(28) + granularity.to_bytes(4, "big") + bytes(32)
    target.pages[0xB2] = bytes([0, 0xB2, 0, 4, 0, 0x40, 0, 0])


def test_unmap_is_used_when_aligned_and_dropped_when_refused() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        await store.zero(Extent(0, 8192))
        await store.zero(Extent(512, 8192))
        target.always(scsi.WRITE_SAME_16, sense(5, 0x2400))
        await store.zero(Extent(8192, 4096))
        flags = [cdb[1] for cdb in target.commands if cdb[0] == scsi.WRITE_SAME_16]
        assert flags == [8, 0, 8, 0]
        assert target.disk[:12288] == bytes(12288)

    run(check, prepare=thin)


def lba_status(*parts: tuple[int, int, int]) -> Answer:
    body = b"".join(struct.pack(">QIB3x", *part) for part in parts)
    return lambda _cdb, _data: Reply(struct.pack(">I4x", len(body) + 4) + body)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([lba_status((0, 8, 1), (8, 8, 0), (16, 1000, 1))], "0000000011111111000000000000"),
        ([lba_status((0, 8, 1)), lba_status((8, 100, 0))], "0000000011111111111111111111"),
        ([lba_status((0, 8, 1)), lba_status((0, 8, 1))], "0000000011111111111111111111"),
        ([lba_status((0, 8, 1), (10, 8, 1))] * 2, "0000000011111111111111111111"),
        ([lba_status((0, 0, 1))], "1" * 28),
        ([lba_status()], "1" * 28),
        ([lambda _cdb, _data: Reply(b"\xff" * 20)], "1" * 28),
        ([sense(5, 0x2000)], "1" * 28),
        ([sense(4, 0x4400)], "1" * 28),
    ],
)
def test_lba_status_is_believed_only_where_it_makes_sense(answers: Any, expected: str) -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.script.extend((0x9E, answer) for answer in answers)
        parts = await store.extents(Extent(0, 28 * BLOCK))
        text = "".join(
            ("1" if kind is ExtentKind.DATA else "0") * (length // BLOCK) for kind, length in parts
        )
        assert text == expected

    run(check, prepare=thin)


@pytest.mark.parametrize(
    ("number", "error", "reason"),
    [
        (0x0201, SourceLoginError, "Authentication failure"),
        (0x0203, SourceLoginError, "not found"),
        (0x0101, SourceLoginError, "moved to another address"),
        (0x0301, SourceUnreachableError, "Service unavailable"),
    ],
)
def test_login_answer_decides_the_error(number: int, error: type[Exception], reason: str) -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        with pytest.raises(error, match=reason):
            await store.wait_ready(0.5)
        target.login_status = 0
        await until(lambda: store.is_reachable)

    def prepare(target: ScriptedTarget) -> None:
        target.login_status = number

    run(check, prepare=prepare, is_ready=False)


def test_connection_closed_during_login_is_unreachable() -> None:
    async def check(store: IscsiStore, _: ScriptedTarget) -> None:
        with pytest.raises(SourceUnreachableError, match="lost"):
            await store.wait_ready(0.3)

    def prepare(target: ScriptedTarget) -> None:
        target.accepts_logins = False

    run(check, prepare=prepare, is_ready=False)


def test_peer_that_never_answers_the_login_is_unreachable() -> None:
    async def main() -> None:
        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        options = IscsiOptions(connect_timeout_seconds=0.1)
        url = parse_iscsi_url(f"iscsi://127.0.0.1:{port}/iqn.2024-01.x:y/0")
        store = IscsiStore(url, initiator=INITIATOR, options=options)
        store.start()
        with pytest.raises(SourceUnreachableError, match=r"did not answer within 0\.1 s"):
            await store.wait_ready(0.4)
        await store.close()
        server.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 4800, bytes(48), b"HTTP/1.1 200 OK\r\n\r\n" * 9],
    ids=["ones", "zeros", "http"],
)
def test_garbage_ends_the_session_and_nothing_else(garbage: bytes) -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.READ_16, lambda _cdb, _data: None)
        call = store.read_into(0, buffers_of(bytearray(4096)))
        await asyncio.wait_for(target.seen.wait(), 5)
        target.connections[0].write(garbage)
        with pytest.raises(SourceUnreachableError):
            await call

    run(check)


def test_more_data_than_asked_for_ends_the_session() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.READ_16, lambda _cdb, _data: None)
        buffer = bytearray(512)
        call = store.read_into(0, buffers_of(buffer))
        await asyncio.wait_for(target.seen.wait(), 5)
        writer, header, _, _ = target.unanswered.pop()
        forged = header[:20] + (4096).to_bytes(4, "big") + header[24:]
        target.answer(writer, forged, Reply(b"!" * 4096))
        with pytest.raises(SourceUnreachableError):
            await call

    run(check)


def test_queue_depth_is_kept_and_the_order_too() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.READ_16, lambda _cdb, _data: None, 20)
        calls = [store.read_into(n * 512, buffers_of(bytearray(512))) for n in range(20)]
        order = []
        while not all(call.done() for call in calls):
            await asyncio.wait_for(target.seen.wait(), 5)
            target.seen.clear()
            await asyncio.sleep(0)
            assert len(target.unanswered) <= 4
            writer, header, cdb, _ = target.unanswered.pop(0)
            order.append(int.from_bytes(cdb[2:10], "big"))
            target.answer(writer, header, Reply(bytes(512)))
            if target.unanswered:
                target.seen.set()
            elif len(order) == 20:
                break
        await asyncio.gather(*calls)
        assert order == list(range(20))

    run(check, options=IscsiOptions(queue_depth=4))


def test_isid_lasts_with_an_instance_and_changes_without() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.drop()
        logins = len(target.isids)
        await until(lambda: len(target.isids) > logins)
        assert len(set(target.isids)) == 1
        url = parse_iscsi_url(target.url)
        for instance, is_same in (("vol0", True), ("vol1", False), (None, False)):
            other = IscsiStore(url, initiator=INITIATOR, options=FAST, instance=instance)
            other.start()
            await other.wait_ready(5)
            assert (target.isids[-1] == target.isids[0]) is is_same
            await other.close()

    run(check, instance="vol0")


def test_lost_write_makes_the_store_unreachable_until_its_session_is_back() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        await until(lambda: store.session_count == 2)
        target.always(scsi.WRITE_16, lambda _cdb, _data: None)
        call = store.write(0, buffers_of(bytes(512)))
        await asyncio.wait_for(target.seen.wait(), 5)
        target.accepts_logins = False
        target.unanswered[0][0].transport.abort()
        with pytest.raises(SourceUnreachableError):
            await call
        assert store.session_count == 1
        assert not store.is_reachable
        with pytest.raises(SourceUnreachableError):
            await store.write(0, buffers_of(bytes(512)))
        target.accepts_logins = True
        await store.wait_ready(5)
        assert store.session_count == 2
        assert await store.write(0, buffers_of(bytes(512))) == 1

    run(check, options=IscsiOptions(sessions=2, reconnect_delay_seconds=0.02))


def test_lost_read_is_sent_over_another_session() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        await until(lambda: store.session_count == 2)
        target.always(scsi.READ_16, lambda _cdb, _data: None)
        call = store.read_into(0, buffers_of(bytearray(512)))
        await asyncio.wait_for(target.seen.wait(), 5)
        target.accepts_logins = False
        target.unanswered[0][0].transport.abort()
        await call
        assert store.is_reachable
        assert store.epoch == 1

    run(check, options=IscsiOptions(sessions=2))


def test_late_answer_reaches_no_memory() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.READ_16, lambda _cdb, _data: None)
        buffer = bytearray(b"\xaa" * 512)
        with pytest.raises(SourceUnreachableError, match="not answered in time"):
            await store.read_into(0, buffers_of(buffer))
        writer, header, _, _ = target.unanswered.pop()
        target.answer(writer, header, Reply(b"!" * 512))
        await store.wait_ready(5)
        assert await read(store) == bytes(4096)
        assert buffer == b"\xaa" * 512

    run(check)


def test_close_ends_calls_in_flight() -> None:
    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        target.always(scsi.READ_16, lambda _cdb, _data: None, 3)
        calls = [store.read_into(0, buffers_of(bytearray(512))) for _ in range(3)]
        await asyncio.wait_for(target.seen.wait(), 5)
        await store.close()
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, SourceUnreachableError)

    run(check, options=IscsiOptions(queue_depth=2))


def test_lun_without_any_name_is_known_by_its_address() -> None:
    async def check(store: IscsiStore, _: ScriptedTarget) -> None:
        assert store.geometry.identity == "lun.iqn.2024-01.test.example:scripted/0"

    run(check)


def test_bad_initiator_name_is_refused() -> None:
    async def main() -> None:
        for name in ("", "me", "iqn.", "iqn.a b", "iqn." + "x" * 300, "iqn.é"):
            with pytest.raises(BadSettingError):
                IscsiStore(parse_iscsi_url("iscsi://127.0.0.1/iqn.2024-01.x:y/0"), initiator=name)

    asyncio.run(main())


@pytest.mark.parametrize(("alias", "is_padded"), [(b"abcd", True), (b"abc", False)])
def test_login_answer_with_dirty_padding_is_explained(alias: bytes, is_padded: bool) -> None:
    """As LIO's last one of mutual CHAP: libiscsi reads the padding, too."""

    def prepare(target: ScriptedTarget) -> None:
        target.login_text = b"TargetAlias=" + alias + b"\0"
        target.login_padding = b"f"

    async def check(store: IscsiStore, target: ScriptedTarget) -> None:
        if is_padded:
            with pytest.raises(SourceLoginError, match="6, 10 or 14 characters"):
                await store.wait_ready(5)
        else:
            await store.wait_ready(5)

    run(check, prepare=prepare, is_ready=False)
