"""What tcmu-runner calls when a volume comes, goes or changes, and once at start and end.

This module is imported by the plugin, inside tcmu-runner. Its functions run on tcmu-runner's
threads: the main one, the one that reopens a device, or, for ``close`` at a removal, the
device's cancelled command thread (handler_glue.c, close_device). They touch no engine state
themselves but ask the engine's thread and wait for a bounded time. Data commands never come here.

None of them lets an exception read as success: cffi's answer to one would be 0, so each has
an error value, and logs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tcmu_restore_handler import ffi, lib

from ..errors import BadDefinitionError, RestoreError, UserError
from ..log_line import log_line
from . import runner_log
from .device import Device
from .glue import GlueDevice, log
from .runtime_seam import Runtime
from .volume_name import volume_name

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long tcmu-runner's threads wait for the engine's."""

    open_seconds: float = 20.0
    """Blocks tcmu-runner's main thread, and targetcli; opening is local."""

    stop_seconds: float = 30.0
    """How long commands may still take at a close: longer than any of them is held."""

    close_seconds: float = 60.0
    """Commands, and then the volume's own close. Past it tcmu-runner goes on without it."""


BLOCK_SIZE_MIN: Final = 512
BLOCK_SIZE_MAX: Final = 4096
TRANSFER_SIZE: Final = 1024 * 1024
"""Bytes; the largest and optimal transfer that hosts are told (VPD page B0h)."""

READY: Final = 1
"""GLUE_READY of handler_glue.h."""


def _service_runtime() -> Runtime:
    from ..service.runtime import Runtime as ServiceRuntime  # noqa: PLC0415  # only in the daemon

    return ServiceRuntime()


timeouts = Timeouts()
make_runtime: Callable[[], Runtime] = _service_runtime
"""A test's entry module puts its own here, and its own timeouts, before tcmu-runner calls init."""


class _Plugin:
    """What lives as long as the process. Used by tcmu-runner's threads, one at a time a device."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self.log_handler: logging.Handler | None = None
        self.devices: dict[int, tuple[Device, GlueDevice]] = {}

    def started(self) -> Runtime:
        """Return the runtime."""
        assert self.runtime is not None, "tcmu-runner has not called init"
        return self.runtime

    def run(self, coroutine: Coroutine[Any, Any, _Result], timeout_seconds: float) -> _Result:
        """Run *coroutine* on the engine's thread; raise TimeoutError if that takes too long."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.started().loop)
        try:
            return future.result(timeout_seconds)
        except TimeoutError:
            future.cancel()
            raise


_plugin = _Plugin()


def _on_error(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """Log what left a callback; cffi then returns the callback's error value."""
    log(3, f"{kind.__name__}: {error}")


@ffi.def_extern(error=0, onerror=_on_error)  # type: ignore[untyped-decorator]
def glue_python_ready() -> int:
    """Say that this module could be imported."""
    return READY


@ffi.def_extern(error=-errno.EIO, onerror=_on_error)  # type: ignore[untyped-decorator]
def glue_python_init() -> int:
    """Start the engine's thread. Not 0: tcmu-runner goes on without the handler."""
    _plugin.log_handler = runner_log.install(log)
    try:
        runtime = make_runtime()
        runtime.start()
    except Exception:  # noqa: BLE001  # whatever it is, tcmu-runner must go on
        _log.exception(log_line("The restore handler could not be started", operation="start"))
        return -errno.EIO
    _plugin.runtime = runtime
    return 0


@ffi.def_extern(onerror=_on_error)  # type: ignore[untyped-decorator]
def glue_python_destroy() -> None:
    """Stop the engine's thread; tcmu-runner closes its log next."""
    try:
        if _plugin.runtime is not None:
            _plugin.runtime.stop()
            _plugin.runtime = None
    finally:
        if _plugin.log_handler is not None:
            logging.getLogger().removeHandler(_plugin.log_handler)
            _plugin.log_handler = None


@ffi.def_extern(error=0, onerror=_on_error)  # type: ignore[untyped-decorator]
def glue_python_check_config(config: Any, reason: Any, reason_size: int) -> int:
    """Return 1 if *config* can be opened; else 0 with one sentence in *reason*."""
    try:
        _plugin.started().check(volume_name(_text(config)))
    except RestoreError as error:
        _fill(reason, str(error), reason_size)
        return 0
    return 1


@ffi.def_extern(error=-errno.EIO, onerror=_on_error)  # type: ignore[untyped-decorator]
def glue_python_open(dev: Any, reopen: int) -> int:
    """Open the volume and let commands come. 0, or a negative errno (which tcmu-runner drops)."""
    config = _text(lib.glue_config(dev))
    try:
        _open(dev, volume_name(config), config)
    except UserError as error:
        what = "reopened" if reopen else "opened"
        _log.error(log_line(f"it was not {what}: {error}", volume=config, operation="open"))
        return -errno.EINVAL
    except (RestoreError, OSError, TimeoutError) as error:
        sentence = f"it was not opened: {str(error) or 'no answer in time'}"
        _log.error(log_line(sentence, volume=config, operation="open"))
        return -errno.EIO
    return 0


@ffi.def_extern(onerror=_on_error)  # type: ignore[untyped-decorator]
def glue_python_close(dev: Any) -> None:
    """Complete what is in flight, close the volume and detach the device."""
    key = int(ffi.cast("uintptr_t", dev))
    device, glue_device = _plugin.devices.pop(key)
    try:
        _plugin.run(_close(device), timeouts.close_seconds)
    except Exception:  # noqa: BLE001  # the device goes, whatever the volume says
        line = log_line("it was not closed in order", volume=device.name, operation="close")
        _log.exception(line)
    finally:
        left = glue_device.close()
        if left:
            sentence = f"{left} commands will never be completed"
            _log.critical(log_line(sentence, volume=device.name, operation="close"))


@ffi.def_extern(error=-errno.EIO, onerror=_on_error)  # type: ignore[untyped-decorator]
def glue_python_resize(dev: Any, size: int) -> int:
    """Answer a changed size (bytes): only that to which the volume has grown already."""
    if size == lib.glue_blocks(dev) * lib.glue_block_size(dev):
        return 0
    found = _plugin.devices.get(int(ffi.cast("uintptr_t", dev)))
    return 0 if found is not None and found[0].take_size(size) else -errno.EOPNOTSUPP


def _open(dev: Any, name: str, config: str) -> None:
    blocks, block_size = lib.glue_blocks(dev), lib.glue_block_size(dev)
    if not BLOCK_SIZE_MIN <= block_size <= BLOCK_SIZE_MAX or block_size & (block_size - 1):
        raise BadDefinitionError(config, f"a block size of {block_size} bytes is not supported")
    runtime = _plugin.started()
    glue_device = GlueDevice(dev)
    try:
        opening = runtime.open_volume(name, blocks * block_size, block_size)
        engine = _plugin.run(opening, timeouts.open_seconds)
    except BaseException:
        glue_device.close_descriptor()
        glue_device.close()
        raise
    device = Device(name, glue_device, engine, runtime.loop)
    lib.glue_describe(dev, TRANSFER_SIZE // block_size, max(1, engine.region_size // block_size))
    _plugin.devices[int(ffi.cast("uintptr_t", dev))] = device, glue_device
    runtime.loop.call_soon_threadsafe(device.start)
    glue_device.attach()


async def _close(device: Device) -> None:
    try:
        await device.stop(timeouts.stop_seconds)
    finally:
        await _plugin.started().close_volume(device.name)


def _text(pointer: Any) -> str:
    raw: bytes = ffi.string(pointer)
    return raw.decode("utf-8", "replace")


def _fill(target: Any, text: str, size: int) -> None:
    """Copy *text* into *size* bytes, cut at a character and ended by a zero."""
    raw = text.encode()[: size - 1].decode("utf-8", "ignore").encode()
    ffi.memmove(target, raw + b"\0", len(raw) + 1)
