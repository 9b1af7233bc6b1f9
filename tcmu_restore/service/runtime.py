"""The thread and the event loop that own every volume, inside tcmu-runner's process.

``Runtime`` is what the handler's entry points talk to; its ``start``, ``stop``
and ``check`` are for the runner's main thread, everything else is for the loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from ..engine.registry import VolumeRegistry
from ..engine.volume_engine import VolumeEngine
from .server import Server, serve

log = logging.getLogger(__name__)

START_SECONDS = 20.0
"""How long the runner waits for the loop and D-Bus; it serves nothing before."""


class Runtime:
    """One loop thread, one registry, one D-Bus service."""

    def __init__(self, registry: VolumeRegistry | None = None) -> None:
        self.registry = registry or VolumeRegistry()
        self.loop = asyncio.new_event_loop()
        self._server: Server | None = None
        self._thread = threading.Thread(target=self._run, name="tcmu-restore", daemon=True)

    def start(self) -> None:
        """Start the thread; return when it serves. Without D-Bus volumes are served all the same.

        A service that cannot be offered is an error in the log, not a reason to keep LUNs away.
        """
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self.loop).result(START_SECONDS)

    def stop(self) -> None:
        """Close every volume and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def check(self, name: str) -> None:
        """Raise a RestoreError if *name* cannot be opened, as far as local files tell."""
        self.registry.check(name)

    async def open_volume(self, name: str, size: int, block_size: int) -> VolumeEngine:
        """Open *name* for LIO (sizes in bytes)."""
        return await self.registry.open_volume(name, size, block_size)

    async def close_volume(self, name: str) -> None:
        """Close *name*."""
        await self.registry.close_volume(name)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _serve(self) -> None:
        try:
            self._server = await serve(self.registry)
        except Exception:  # LUNs come before their remote control
            log.exception("the D-Bus service could not be offered; volumes are served without it")

    async def _close(self) -> None:
        await self.registry.close()
        if self._server is not None:
            await self._server.close()
