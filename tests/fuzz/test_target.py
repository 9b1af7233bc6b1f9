"""A backup target that lies: whatever it answers, a call ends in time, with bytes or an error.

What is asked after a login (INQUIRY, VPD pages, READ CAPACITY), GET LBA STATUS, sense data, and
the frames around them: short, long, misplaced, and another LUN in mid-session.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.core.extent import Extent
from tcmu_restore.errors import IdentityMismatchError, RestoreError, SizeMismatchError
from tcmu_restore.options import IscsiOptions
from tcmu_restore.sources import scsi
from tcmu_restore.sources.base import SourceGeometry
from tcmu_restore.sources.iscsi import IscsiStore
from tcmu_restore.sources.iscsi_url import parse_iscsi_url
from tests.sources.scripted_target import BLOCK, Answer, Reply, ScriptedTarget, until

from .hostile import TOKENS, fuzzed, is_one_sentence

INITIATOR = "iqn.2024-01.test.example:initiator"
QUICK = IscsiOptions(
    command_timeout_seconds=0.2,
    connect_timeout_seconds=0.5,
    reconnect_delay_seconds=0.02,
    reconnect_delay_max_seconds=0.05,
    keepalive_seconds=5,
)
ANSWER_SECONDS = 10.0
"""Far beyond every deadline above: what is later has none."""

OPCODES = (0x00, 0x12, 0x9E, scsi.READ_16, scsi.WRITE_16, scsi.SYNCHRONIZE_CACHE_16)
PAGES = (
    scsi.PAGE_SUPPORTED,
    scsi.PAGE_SERIAL,
    scsi.PAGE_IDENTIFICATION,
    scsi.PAGE_BLOCK_LIMITS,
    scsi.PAGE_PROVISIONING,
)

numbers = st.one_of(
    st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]), st.integers(0, 2**64 - 1)
)
data = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(TOKENS),
    st.builds(lambda last, block: struct.pack(">QI20x", last, block % 2**32), numbers, numbers),
    st.builds(
        lambda lba, count: struct.pack(">II", 20, 0) + struct.pack(">QIB3x", lba, count % 2**32, 1),
        numbers,
        numbers,
    ),
)
replies = st.builds(
    Reply,
    data=data,
    status=st.sampled_from([0, 0, 0, 0x02, 0x08, 0x18, 0x28, 0x40, 0x30, 0xFF]),
    sense=st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 15), st.integers(0, 65535))),
    residual=st.sampled_from([0, 0, 1, 4096, 2**31]),
)


async def outcome(call: Awaitable[Any]) -> Any:
    """What *call* returns, or its error, which a person can be shown."""
    try:
        found = await asyncio.wait_for(call, ANSWER_SECONDS)
    except RestoreError as error:
        found = error
    assert not isinstance(found, RestoreError) or is_one_sentence(found), repr(str(found))
    return found


async def use(target: ScriptedTarget, expected: SourceGeometry | None = None) -> None:
    """Log in, and call everything that a volume calls."""
    store = IscsiStore(
        parse_iscsi_url(target.url), initiator=INITIATOR, options=QUICK, expected=expected
    )
    store.start()
    try:
        if await outcome(store.wait_ready(1)) is None:
            await _call_everything(store)
        for link in store._links:
            assert link._task is not None
            assert not link._task.done(), "nobody tries to log in any more"
    finally:
        await asyncio.wait_for(store.close(), ANSWER_SECONDS)


async def _call_everything(store: IscsiStore) -> None:
    geometry = store.geometry
    assert geometry.identity.isprintable()
    assert 0 < geometry.size < 1 << 63
    length = max(4096, geometry.block_size)
    if geometry.size < 4 * length:
        return
    await outcome(store.read_into(0, buffers_of(bytearray(length))))
    await outcome(store.write(0, buffers_of(bytearray(length))))
    await outcome(store.flush())
    extent = Extent(0, 4 * length)
    parts = await outcome(store.extents(extent))
    assert sum(part for _, part in parts) == extent.length
    assert all(part > 0 for _, part in parts)


def constant(reply: Reply) -> Answer:
    return lambda _cdb, _data: reply


@fuzzed
@given(st.lists(st.tuples(st.sampled_from(OPCODES), replies), max_size=8))
def test_any_answer_to_any_command(script: list[tuple[int, Reply]]) -> None:
    async def go() -> None:
        async with ScriptedTarget() as target:
            target.provisioning = 0xC0
            for opcode, reply in script:
                target.always(opcode, constant(reply))
            await use(target)

    asyncio.run(go())


@fuzzed
@given(st.dictionaries(st.sampled_from(PAGES), st.binary(max_size=252)))
@example({scsi.PAGE_IDENTIFICATION: b"\0\x83\xff\xff" + b"\1\3\0\xff" * 60})
@example({scsi.PAGE_BLOCK_LIMITS: b"\xff" * 252})
@example({scsi.PAGE_SERIAL: b"\0\x80\0\x08\x1b]0;hi\x07"})
def test_any_page(pages: dict[int, bytes]) -> None:
    async def go() -> None:
        async with ScriptedTarget() as target:
            target.provisioning = 0xC0
            listed = pages.pop(scsi.PAGE_SUPPORTED, None)
            target.pages |= pages
            if listed is not None:
                target.pages |= dict.fromkeys(listed[4:], b"")
            await use(target)

    asyncio.run(go())


@fuzzed
@given(
    st.lists(st.tuples(st.integers(0, 47), st.integers(0, 255)), max_size=3),
    st.sampled_from(["as it is", "none", "short", "long", "huge"]),
    st.integers(0, 20),
)
@example([(1, 0x81), (40, 0xFF)], "as it is", 0)  # a buffer offset far beyond the buffer
@example([(40, 0x00), (43, 0xF0)], "long", 0)
@example([(16, 0x7F)], "as it is", 3)  # the answer to a command that nobody sent
def test_any_frame(changes: list[tuple[int, int]], form: str, after: int) -> None:
    """From the answer number *after* on, headers are changed and data cut or extended."""
    count = 0

    def tamper(pdu: bytearray, sent: bytes) -> bytes:
        nonlocal count
        count += 1
        if count <= after:
            return sent
        forms = {
            "as it is": sent,
            "none": b"",
            "short": sent[: len(sent) // 2],
            "long": sent + b"\xee" * 512,
            "huge": sent + b"\xee" * 300_000,
        }
        pdu[5:8] = len(forms[form]).to_bytes(3, "big")
        for at, value in changes:
            pdu[at] = value
        return forms[form]

    async def go() -> None:
        async with ScriptedTarget() as target:
            target.tamper = tamper
            await use(target)

    asyncio.run(go())


def test_long_data_never_leaves_its_buffer() -> None:
    """What stands beside the buffer of a read is as it was, whatever offset and length say."""

    async def go(offset: int, extra: int) -> None:
        async with ScriptedTarget() as target:
            store = IscsiStore(parse_iscsi_url(target.url), initiator=INITIATOR, options=QUICK)
            store.start()
            await store.wait_ready(5)

            def tamper(pdu: bytearray, sent: bytes) -> bytes:
                found = sent + b"\xee" * extra
                pdu[5:8] = len(found).to_bytes(3, "big")
                pdu[40:44] = offset.to_bytes(4, "big")
                return found

            target.tamper = tamper
            memory = bytearray(3 * 4096)
            middle = memoryview(memory)[4096:8192]
            await outcome(store.read_into(0, (middle,)))
            assert bytes(memory[:4096]) == bytes(4096)
            assert bytes(memory[8192:]) == bytes(4096)
            await store.close()

    for offset in (0, 2048, 4095, 4096, 8192, 2**31, 2**32 - 4096, 2**32 - 1):
        for extra in (0, 512, 8192):
            asyncio.run(go(offset, extra))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda target: target.pages.update({0x80: b"\0\x80\0\x05other"}), IdentityMismatchError),
        (lambda target: target.disk.extend(bytes(BLOCK)), SizeMismatchError),
    ],
)
def test_another_lun_in_mid_session_is_not_used(change: Any, error: type[RestoreError]) -> None:
    """It says that something changed, or the session is lost: then it is examined anew."""

    async def go() -> None:
        async with ScriptedTarget() as target:
            target.pages[0x80] = b"\0\x80\0\x05first"
            store = IscsiStore(parse_iscsi_url(target.url), initiator=INITIATOR, options=QUICK)
            store.start()
            await store.wait_ready(5)
            change(target)
            target.always(scsi.READ_16, lambda _cdb, _data: Reply(sense=(6, 0x3F03)))
            first = await outcome(store.read_into(0, buffers_of(bytearray(4096))))
            target.drop()
            await until(lambda: isinstance(store.last_error, error))
            assert not store.is_reachable
            again = await outcome(store.read_into(0, buffers_of(bytearray(4096))))
            assert isinstance(again, RestoreError), (first, again)
            await store.close()

    asyncio.run(go())
