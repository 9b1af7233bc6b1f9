"""Reports how fast IscsiStore is on loopback, beside libiscsi's own ``iscsi-perf``.

It reports and never fails. Run it from the project's root: python -m tests.bench.bench_iscsi_source
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tcmu_restore.options import IscsiOptions
from tcmu_restore.sources.iscsi import IscsiStore
from tcmu_restore.sources.iscsi_url import parse_iscsi_url
from tcmu_restore.units import KiB, MiB
from tests.support import tgt

SIZE = 256 * MiB


async def measure(
    store: IscsiStore, *, length: int, depth: int, seconds: float, writes: bool
) -> float:
    """Return commands per second with *depth* calls of *length* bytes always in flight."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    offsets = [random.randrange(SIZE // length) * length for _ in range(4096)]
    turn = count = active = 0
    end = time.monotonic() + seconds

    def launch(buffers: tuple[memoryview, ...]) -> None:
        nonlocal turn, active
        turn += 1
        offset = offsets[turn % len(offsets)]
        future: asyncio.Future[Any] = (
            store.write(offset, buffers) if writes else store.read_into(offset, buffers)
        )
        active += 1
        future.add_done_callback(ended(buffers))

    def ended(buffers: tuple[memoryview, ...]) -> Callable[[asyncio.Future[Any]], None]:
        def callback(future: asyncio.Future[Any]) -> None:
            nonlocal count, active
            future.result()
            count += 1
            active -= 1
            if time.monotonic() < end:
                launch(buffers)
            elif active == 0:
                done.set_result(None)

        return callback

    started = time.monotonic()
    for _ in range(depth):
        launch((memoryview(bytearray(length)),))
    await done
    return count / (time.monotonic() - started)


def measure_iscsi_perf(url: str, *, blocks: int, depth: int, seconds: float) -> str:
    """Return what ``iscsi-perf`` says: random reads."""
    program = shutil.which("iscsi-perf")
    if program is None:
        return "not installed (libiscsi-bin)"
    command = [program, "-r", "-m", str(depth), "-b", str(blocks), "-t", str(int(seconds)), url]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.findall(r"iops average (\d+)", output)
    return f"{found[-1]} IOPS" if found else output.strip()[-80:]


async def bench(seconds: float, profile: bool) -> None:
    """Start a target and print the figures."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        backing = Path(folder) / "disk"
        backing.touch()
        os.truncate(backing, SIZE)
        with tgt.TgtTarget(Path(folder), backing) as target:
            store = IscsiStore(
                parse_iscsi_url(target.url),
                initiator="iqn.2024-01.test.example:bench",
                options=IscsiOptions(queue_depth=64),
            )
            store.start()
            await store.wait_ready(10)
            profiler = cProfile.Profile()
            if profile:
                profiler.enable()
            for writes, length, depth in (
                (False, 4 * KiB, 1),
                (False, 4 * KiB, 16),
                (True, 4 * KiB, 16),
                (False, 256 * KiB, 8),
                (True, 256 * KiB, 8),
            ):
                cpu = time.process_time()
                rate = await measure(
                    store, length=length, depth=depth, seconds=seconds, writes=writes
                )
                cpu = (time.process_time() - cpu) / (rate * seconds)
                verb = "write" if writes else "read "
                print(
                    f"IscsiStore {verb} {length // KiB:4} KiB depth {depth:2}: {rate:8.0f} IOPS"
                    f" {rate * length / MiB:7.0f} MiB/s {cpu * 1e6:6.1f} us CPU each"
                )
            if profile:
                profiler.disable()
                pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
            await store.close()
            for length, depth in ((4 * KiB, 1), (4 * KiB, 16), (256 * KiB, 8)):
                rate_text = await asyncio.to_thread(
                    measure_iscsi_perf,
                    target.url,
                    blocks=length // 512,
                    depth=depth,
                    seconds=seconds,
                )
                print(f"iscsi-perf read  {length // KiB:4} KiB depth {depth:2}: {rate_text}")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure")
    parser.add_argument("--profile", action="store_true", help="show where Python's time goes")
    arguments = parser.parse_args()
    if tgt.MISSING:
        raise SystemExit(tgt.MISSING)
    asyncio.run(bench(arguments.seconds, arguments.profile))


if __name__ == "__main__":
    main()
