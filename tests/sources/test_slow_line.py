"""A session over a line that is slower than its deadlines, and over one that stops."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.errors import SourceUnreachableError
from tcmu_restore.options import IscsiOptions
from tcmu_restore.sources.iscsi import IscsiStore
from tcmu_restore.sources.iscsi_url import parse_iscsi_url
from tcmu_restore.units import KiB, MiB
from tests.support import tgt
from tests.support.slow_line import SlowLine
from tests.support.tgt import TgtTarget

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(tgt.MISSING), reason=tgt.MISSING or "none"),
]

OPTIONS = IscsiOptions(
    command_timeout_seconds=1.5,
    connect_timeout_seconds=3.0,
    reconnect_delay_seconds=0.02,
    reconnect_delay_max_seconds=0.1,
    keepalive_seconds=0.5,
)
RATE = 40 * KiB
"""A second: 128 KiB take twice a command's deadline and six keepalives."""


@pytest.fixture
def target() -> Iterator[TgtTarget]:
    with tempfile.TemporaryDirectory(prefix="tgt") as path:
        backing = Path(path) / "disk"
        backing.write_bytes(os.urandom(MiB))
        with TgtTarget(Path(path), backing) as running:
            yield running


async def open_store(port: int, target: TgtTarget) -> IscsiStore:
    url = replace(parse_iscsi_url(target.url), port=port)
    store = IscsiStore(url, initiator="iqn.2024-01.test.example:initiator", options=OPTIONS)
    store.start()
    await store.wait_ready(10)
    return store


def test_slow_line_is_not_taken_for_a_dead_one(target: TgtTarget) -> None:
    async def main(line: SlowLine) -> None:
        store = await open_store(line.port, target)
        loop = asyncio.get_running_loop()
        began = loop.time()
        memory = bytearray(128 * KiB)
        reads = [
            store.read_into(offset, buffers_of(memoryview(memory)[offset : offset + 32 * KiB]))
            for offset in range(0, 128 * KiB, 32 * KiB)
        ]
        await asyncio.gather(*reads)
        assert loop.time() - began > 1.5 * OPTIONS.command_timeout_seconds
        assert memory == target.backing.read_bytes()[: 128 * KiB]
        data = os.urandom(128 * KiB)
        await store.write(512 * KiB, buffers_of(data))  # the target is silent meanwhile
        assert store.statistics.session_losses == 0
        assert target.backing.read_bytes()[512 * KiB : 640 * KiB] == data
        await store.close()

    with SlowLine(target.port, rate=RATE, delay_seconds=0.05) as line:
        asyncio.run(asyncio.wait_for(main(line), 50))


def test_target_that_stops_on_a_slow_line_is_noticed(target: TgtTarget) -> None:
    async def main(line: SlowLine) -> None:
        store = await open_store(line.port, target)
        target.freeze()
        began = asyncio.get_running_loop().time()
        try:
            with pytest.raises(SourceUnreachableError):
                await store.read_into(0, buffers_of(bytearray(128 * KiB)))
            assert asyncio.get_running_loop().time() - began < 5
        finally:
            target.thaw()
        await store.close()

    with SlowLine(target.port, rate=RATE, delay_seconds=0.05) as line:
        asyncio.run(asyncio.wait_for(main(line), 50))
