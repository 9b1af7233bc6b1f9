"""A volume after the loss of its disk, without a kernel.

The core, the driver and the merge job run over stores that hold no bytes and take as long as a link
of a given rate, in virtual time.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, get_running_loop
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any

from tcmu_restore.core.buffer import buffers_of, total_length
from tcmu_restore.core.effects import (
    FindZeros,
    Flush,
    Leg,
    Read,
    Write,
    Zero,
)
from tcmu_restore.core.extent import Extent
from tcmu_restore.core.geometry import Geometry
from tcmu_restore.core.intent_log import IntentLog
from tcmu_restore.core.overwrite_map import OverwriteMap
from tcmu_restore.core.pacing import Pacer, StepSizer
from tcmu_restore.core.state import VolumeState
from tcmu_restore.core.volume import Volume
from tcmu_restore.engine.driver import Commit, Driver
from tcmu_restore.engine.merge_job import MergeJob, MergeState
from tcmu_restore.options import VolumeOptions
from tcmu_restore.units import GiB, KiB, MiB

READ_SIZE = 4 * KiB


@dataclass(frozen=True, slots=True)
class Load:
    """Who reads what, how fast, and how fast the links are. Sizes are bytes."""

    size: int = 4 * GiB
    extent_size: int = 64 * KiB
    """Extents are popular by Zipf's law, and lie anywhere; in one, any block is read."""
    exponent: float = 1.1
    reads_per_second: int = 300
    history_reads: int = 100_000
    """Reads that were counted before the loss."""
    snapshot_rate: int = 50 * MiB
    backup_rate: int = 8 * MiB
    backup_latency_seconds: float = 0.02
    disk_latency_seconds: float = 0.0002


class Popularity:
    """Draws the offsets of reads."""

    def __init__(self, load: Load, seed: int) -> None:
        self._rng = Random(seed)
        count = load.size // load.extent_size
        self._weights = list(accumulate(rank**-load.exponent for rank in range(1, count + 1)))
        self._places = Random(7).sample(range(count), count)
        self._extent_size = load.extent_size

    def draw(self) -> int:
        """Return the offset of the next read, in bytes."""
        rank = bisect(self._weights, self._rng.random() * self._weights[-1])
        block = self._rng.randrange(self._extent_size // READ_SIZE)
        return self._places[rank] * self._extent_size + block * READ_SIZE


class Link:
    """Takes a transfer's turn and length, then the latency."""

    def __init__(self, rate: float, latency_seconds: float) -> None:
        self._rate, self._latency = rate, latency_seconds
        self._free_at = 0.0

    def transfer(self, length: int, result: Any = None) -> Future[Any]:
        """Return a future that is done when *length* bytes are there."""
        loop = get_running_loop()
        self._free_at = max(self._free_at, loop.time()) + length / self._rate
        done = loop.create_future()
        loop.call_at(self._free_at + self._latency, done.set_result, result)
        return done


class Performer:
    """Three links in place of three stores; commits cost nothing."""

    def __init__(self, load: Load) -> None:
        self._links = {
            Leg.PRIMARY: Link(1 * GiB, load.disk_latency_seconds),
            Leg.BACKUP: Link(load.backup_rate, load.backup_latency_seconds),
            Leg.SNAPSHOT: Link(load.snapshot_rate, load.backup_latency_seconds),
        }

    def perform(self, effect: Read | Write | Zero | Flush | FindZeros) -> Future[Any]:
        """Start a transfer."""
        match effect:
            case Read(leg, _, buffers):
                return self._links[leg].transfer(total_length(buffers))
            case Write(leg, _, buffers):
                return self._links[leg].transfer(total_length(buffers), 0)
            case Zero(leg, _) | Flush(leg):
                return self._links[leg].transfer(0, 0)
            case FindZeros():
                return self._links[Leg.PRIMARY].transfer(0, [])

    def commit(self, effect: Commit) -> Future[None]:
        """Answer at once."""
        del effect
        done: Future[None] = get_running_loop().create_future()
        done.set_result(None)
        return done


_Read = tuple[int, bool, float]
"""The second in which it began, whether it was served locally, and how many seconds it took."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a restore looked like to its host, second by second; shares are 0 to 1."""

    local_share: list[float]
    current_share: list[float]
    mean_latency_ms: list[float]
    reads_from_backup: int
    seconds: float


class Restore:
    """One restore of a volume that has just lost everything, while a host reads."""

    def __init__(self, load: Load, *, counts: bool, has_history: bool) -> None:
        self._load = load
        self._counts = counts
        geometry = Geometry(load.size, 512, 4 * KiB, 4 * MiB)
        options = VolumeOptions()
        self.state = VolumeState(
            geometry,
            OverwriteMap(geometry.region_count),
            IntentLog(zone_count=geometry.zone_count),
            options.fetch_ahead_max,
            options.populate_backlog,
        )
        self._volume = Volume(self.state)
        if has_history:
            earlier = Popularity(load, seed=1)
            for _ in range(load.history_reads):
                self.state.heat.count(earlier.draw(), READ_SIZE)
        self._pacer = Pacer(floor=options.background_rate_min, ceiling=options.background_rate_max)
        self._reads: list[_Read] = []

    async def run(self) -> Run:
        """Merge everything; the host's reads are the same in every run."""
        options = VolumeOptions()
        driver = Driver(self.state.locks, Performer(self._load), _raise, lambda: None)
        sizer = StepSizer(
            length_min=4 * KiB, length_max=options.merge_step, depth_max=options.merge_depth
        )
        merge = MergeJob(
            "bench",
            self._volume,
            driver,
            paces=dict.fromkeys((Leg.BACKUP, Leg.SNAPSHOT), self._pacer),
            sizer=sizer,
            on_change=_nothing,
        )
        current: list[float] = []
        popularity = Popularity(self._load, seed=2)
        merge.start()
        while merge.state is not MergeState.DONE:
            current.append(self._share_current())
            for _ in range(self._load.reads_per_second):
                self._read(driver, popularity.draw())
                await asyncio.sleep(1 / self._load.reads_per_second)
        seconds = get_running_loop().time()
        await driver.wait_idle()
        return Run(
            [_mean(one) for one in self._by_second(lambda read: float(read[1]))],
            current,
            [1000 * _mean(one) for one in self._by_second(lambda read: read[2])],
            self.state.counters.reads_from_backup,
            seconds,
        )

    def _share_current(self) -> float:
        return 1 - self.state.overwrite_map.lost_count / self.state.geometry.region_count

    def _read(self, driver: Driver, offset: int) -> None:
        loop = get_running_loop()
        extent, began = Extent(offset, READ_SIZE), loop.time()
        is_local = self._volume.is_current(extent)
        if self._counts:
            self.state.heat.count(offset, READ_SIZE)

        def done(error: BaseException | None) -> None:
            assert error is None, error
            seconds = loop.time() - began
            self._pacer.command_ended(seconds, loop.time())
            self._reads.append((int(began), is_local, seconds))

        driver.start(self._volume.read(extent, buffers_of(bytearray(READ_SIZE))), done)

    def _by_second(self, value: Callable[[_Read], float]) -> Iterator[list[float]]:
        found: dict[int, list[float]] = {}
        for read in self._reads:
            found.setdefault(read[0], []).append(value(read))
        for second in sorted(found):
            yield found[second]


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _raise(mistake: BaseException) -> None:
    raise mistake


def _nothing() -> None:
    """Nobody watches."""
