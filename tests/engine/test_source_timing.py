"""Sources that are timed by themselves and probed: no host waits for the slow one."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tcmu_restore.core.buffer import Buffers, buffers_of
from tcmu_restore.core.effects import Leg
from tcmu_restore.core.extent import Extent
from tcmu_restore.core.readahead import Readahead
from tcmu_restore.core.source_choice import PROBE_SECONDS
from tcmu_restore.engine.source_timing import PROBE_LENGTH, SourceTiming
from tcmu_restore.errors import SourceBusyError, SourceUnreachableError
from tcmu_restore.sources.memory import MemoryStore
from tests.support import tgt
from tests.support.virtual_time import VirtualLoop

from .rig import SIZE, Rig, read, run

MIB = 1 << 20


class Source(MemoryStore):
    """Answers after *seconds*, and after *slope* more for each byte; keeps what was read."""

    def __init__(self, seconds: float, slope: float = 0.0) -> None:
        super().__init__(MIB, identity="x")
        self.seconds, self.slope = seconds, slope
        self.reads: list[tuple[int, int]] = []
        self.is_away = False

    @property
    def is_reachable(self) -> bool:
        return not self.is_away

    def read_into(self, offset: int, buffers: Buffers) -> Future[None]:
        loop = asyncio.get_running_loop()
        future: Future[None] = loop.create_future()
        length = sum(map(len, buffers))
        self.reads.append((offset, length))

        def answer() -> None:
            if self.is_away:
                future.set_exception(SourceUnreachableError("x", "cut"))
            else:
                future.set_result(None)

        loop.call_later(self.seconds + length * self.slope, answer)
        return future


class Pair:
    """A backup and a snapshot, and a host that reads what both may serve."""

    def __init__(self, backup: Source, snapshot: Source) -> None:
        self.legs: dict[Leg, Source] = {Leg.BACKUP: backup, Leg.SNAPSHOT: snapshot}
        self.readahead = Readahead(MIB)
        self.timing = SourceTiming(self.legs.get, self.readahead, lambda: MIB)
        self.asked: list[Leg] = []

    async def read(self, length: int = 4096, offset: int = 8192) -> float:
        """Return how long the host waited."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        leg = self.timing.first_source(Extent(offset, length))
        self.asked.append(leg)
        memory = bytearray(length)
        await self.timing.read(leg, self.legs[leg], offset, buffers_of(memory))
        return loop.time() - began


def simulate(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_faster_snapshot_is_found_by_a_probe_and_asked() -> None:
    async def main() -> None:
        pair = Pair(Source(0.6), Source(0.001))
        waited = [await pair.read() for _ in range(4)]
        assert pair.asked == [Leg.BACKUP, *[Leg.SNAPSHOT] * 3]
        assert waited[1:] == [pytest.approx(0.001)] * 3
        assert pair.legs[Leg.SNAPSHOT].reads[0] == (8192, PROBE_LENGTH)

    simulate(main)


def test_source_that_became_fast_is_noticed_and_no_host_waits_for_a_slow_one() -> None:
    async def main() -> None:
        slow = Source(3.0)
        pair = Pair(Source(0.05), slow)
        for _ in range(400):
            assert await pair.read() == pytest.approx(0.05)  # 20 s, and several probes
        probes = len(slow.reads)
        assert 2 <= probes <= 20 / PROBE_SECONDS + 1
        slow.seconds = 0.001
        for _ in range(1500):
            await pair.read()
        assert pair.asked[-1] is Leg.SNAPSHOT

    simulate(main)


def test_source_that_became_slow_is_left() -> None:
    async def main() -> None:
        pair = Pair(Source(0.05), Source(0.001))
        for _ in range(5):
            await pair.read()
        pair.legs[Leg.SNAPSHOT].seconds = 2.0
        for _ in range(10):
            await pair.read()
        one_waited = [Leg.SNAPSHOT]
        assert pair.asked == [Leg.BACKUP, *[Leg.SNAPSHOT] * 4, *one_waited, *[Leg.BACKUP] * 9]

    simulate(main)


def test_source_that_is_away_is_not_asked() -> None:
    async def main() -> None:
        pair = Pair(Source(0.05), Source(0.001))
        await pair.read()
        await pair.read()
        pair.legs[Leg.SNAPSHOT].is_away = True
        assert pair.timing.first_source(Extent(0, 4096)) is Leg.BACKUP
        pair.legs[Leg.BACKUP].is_away, pair.legs[Leg.SNAPSHOT].is_away = True, False
        assert pair.timing.first_source(Extent(0, 4096)) is Leg.SNAPSHOT

    simulate(main)


def test_probe_that_fails_is_nobodys_error() -> None:
    async def main() -> None:
        pair = Pair(Source(0.05), Source(0.2))
        await pair.read()
        pair.legs[Leg.SNAPSHOT].is_away = True
        await asyncio.sleep(1)
        assert pair.timing.status(Leg.SNAPSHOT)["read_latency_ms"] is None

    simulate(main)


def test_slow_line_gets_no_readahead_and_a_fast_one_all_of_it() -> None:
    async def main() -> None:
        slow = Pair(Source(0.6, 1 / 7000), Source(1))
        slow.legs[Leg.SNAPSHOT].is_away = True
        await slow.read(4096)
        await slow.read(16384)
        assert slow.readahead.length_max < 4096
        fast = Pair(Source(0.001, 1e-8), Source(1))
        fast.legs[Leg.SNAPSHOT].is_away = True
        await fast.read(65536)
        assert fast.readahead.length_max == MIB

    simulate(main)


def test_status_has_latency_and_rate_of_each_source() -> None:
    async def main() -> None:
        pair = Pair(Source(0.05), Source(0.5))
        for _ in range(40):
            await pair.read()
        backup, snapshot = (pair.timing.status(leg) for leg in (Leg.BACKUP, Leg.SNAPSHOT))
        assert backup["read_latency_ms"] == pytest.approx(50)
        assert backup["read_rate_bytes_per_second"] == pytest.approx(4096 / 0.05, rel=0.1)
        assert backup["asked_first"]
        assert snapshot["read_latency_ms"] == pytest.approx(500)
        assert not snapshot["asked_first"]

    simulate(main)


@pytest.mark.integration
@pytest.mark.skipif(bool(tgt.MISSING), reason=tgt.MISSING or "none")
def test_volume_reads_lost_regions_over_the_faster_link(rig: Rig) -> None:
    async def test() -> None:
        await rig.create()
        async with rig.opened() as engine:
            await rig.registry.attach_snapshot("v", rig.snapshot.url)
            choice = engine.performer.timing.choice
            now = asyncio.get_running_loop().time()
            choice.read_ended(Leg.BACKUP, 4096, seconds=0.6, now=now)
            choice.read_ended(Leg.SNAPSHOT, 4096, seconds=0.001, now=now)
            rig.backup.freeze()
            assert await read(engine, 0, 8192) == rig.content[:8192]
            rig.backup.thaw()
            status = rig.registry.status("v")
            assert status["snapshot"]["asked_first"]
            assert status["counters"]["reads_from_snapshot"] == 1
            assert status["counters"]["reads_from_backup"] == 0
            rig.snapshot.kill()  # and the live link is there for it
            assert await read(engine, SIZE - 8192, 8192) == rig.content[-8192:]
            assert rig.registry.status("v")["counters"]["reads_from_backup"] == 1

    run(test)


@pytest.mark.integration
@pytest.mark.skipif(bool(tgt.MISSING), reason=tgt.MISSING or "none")
def test_read_over_a_slow_line_is_answered_busy_in_time_and_comes_meanwhile(rig: Rig) -> None:
    async def test() -> None:
        await rig.create()
        rig.options("patience_seconds = 0.5\nhold_seconds = 0.2\n")
        async with rig.opened() as engine:
            rig.backup.freeze()
            began = asyncio.get_running_loop().time()
            with pytest.raises(SourceBusyError, match="on its way"):
                await read(engine, 0, 8192)
            assert 0.5 <= asyncio.get_running_loop().time() - began < 3
            rig.backup.thaw()
            assert await read(engine, 0, 8192) == rig.content[:8192]
            assert rig.registry.status("v")["counters"]["reads_from_backup"] == 1

    run(test)
