"""A volume on a real disk file and real iSCSI targets in user space, and what a host does to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.engine.command import Command, CommandKind
from tcmu_restore.engine.registry import VolumeRegistry
from tcmu_restore.engine.volume_engine import VolumeEngine
from tcmu_restore.errors import RestoreError
from tests.support.tgt import TgtTarget

SIZE = 8 << 20


class Rig:
    """A backup and a snapshot behind real targets, a blank disk, and a registry."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.content = random.Random(5).randbytes(SIZE)
        self.backup = self._target(stack, "backup")
        self.snapshot = self._target(stack, "snapshot")
        self.primary = folder / "primary"
        self.primary.write_bytes(bytes(SIZE + 4096))
        self.registry = VolumeRegistry(folder / "etc", folder / "var")

    def _target(self, stack: ExitStack, name: str) -> TgtTarget:
        (self.folder / name).write_bytes(self.content)
        sockets = self.folder / f"{name[0]}s"
        sockets.mkdir()
        return stack.enter_context(TgtTarget(sockets, self.folder / name, identity=name))

    async def create(self) -> int:
        return await self.registry.create_volume(
            "v", primary=str(self.primary), backup=self.backup.url
        )

    @asynccontextmanager
    async def opened(self, *, reachable: bool = True) -> AsyncIterator[VolumeEngine]:
        engine = await self.registry.open_volume("v", SIZE, 512)
        try:
            if reachable:
                await engine.backup.wait_ready(10)
            yield engine
        finally:
            await self.registry.close()

    def options(self, text: str) -> None:
        path = self.folder / "etc" / "v.toml"
        path.write_text(path.read_text() + "[options]\n" + text)


async def do(
    engine: VolumeEngine,
    kind: CommandKind,
    offset: int,
    data: bytes | bytearray,
    *,
    fua: bool = False,
) -> None:
    """Submit a command and wait for it; raise what it is completed with."""
    ended: asyncio.Future[RestoreError | None] = asyncio.get_running_loop().create_future()
    command = Command(kind, offset, len(data), buffers_of(data), fua, ended.set_result)
    engine.submit(command)
    error = await asyncio.wait_for(ended, 30)
    if error is not None:
        raise error


async def read(engine: VolumeEngine, offset: int, length: int) -> bytes:
    memory = bytearray(length)
    await do(engine, CommandKind.READ, offset, memory)
    return bytes(memory)


async def merged(engine: VolumeEngine) -> None:
    """Wait, without sleeping, until the merge is done."""
    done = asyncio.Event()
    report = engine.merge._on_change

    def watch() -> None:
        report()
        if engine.merge.state.value == "done":
            done.set()

    engine.merge._on_change = watch
    if engine.merge.state.value != "done":
        await asyncio.wait_for(done.wait(), 30)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(_awaited(test), 60))


async def _awaited(test: Callable[[], Awaitable[None]]) -> None:
    await test()
