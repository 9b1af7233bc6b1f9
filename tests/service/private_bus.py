"""A message bus of one's own, and the real service on it in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tcmu_restore.service.registry_seam import Registry
from tcmu_restore.service.server import serve

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>{kind}</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
{policy}</busconfig>
"""

_OPEN = """  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
"""


@contextmanager
def private_bus(folder: Path, *, policy: str = _OPEN) -> Iterator[str]:
    """Run a bus that ends with the block; yields its address. Without *policy* all is allowed."""
    daemon = shutil.which("dbus-daemon")
    if daemon is None:
        pytest.skip("needs dbus-daemon")
    config = folder / "bus.conf"
    kind = "session" if policy is _OPEN else "system"
    config.write_text(_CONFIG.format(socket=folder / "bus", kind=kind, policy=policy))
    command = [daemon, "--nofork", "--print-address", f"--config-file={config}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def service_thread(
    registry: Registry,
    address: str,
    *,
    allowed_uids: Collection[int] | None = None,
    allowed_group: str = "no such group",
) -> Iterator[asyncio.AbstractEventLoop]:
    """Serve *registry* from another thread, as tcmu-runner's process does."""
    uids = {os.getuid()} if allowed_uids is None else allowed_uids
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        serving = asyncio.run_coroutine_threadsafe(
            serve(registry, address, allowed_uids=uids, allowed_group=allowed_group), loop
        )
        server = serving.result(10)
        yield loop
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
