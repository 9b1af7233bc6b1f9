"""A telephone line on loopback: a relay that delays what it passes on and lets little through.

One line for all connections, so what one of them sends keeps the others waiting. It runs in a
thread with a loop of its own and reads on only when there is room on the line, as a modem does.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from asyncio import AbstractEventLoop, StreamReader, StreamWriter
from contextlib import suppress
from types import TracebackType

PACKET = 576
"""Bytes; what a modem line's packets carry."""

QUEUE_SECONDS = 0.1
"""How much may wait at an end of the line before its host has to wait; TCP counts it as arrived."""

BUFFER = 8192
"""Bytes in the relay's own sockets: else the kernel would take what the line has not."""


class _Direction:
    """One way of the line."""

    def __init__(self, rate: float, delay_seconds: float) -> None:
        self._rate = rate
        self._delay_seconds = delay_seconds
        self._free_at = 0.0

    async def pass_on(self, reader: StreamReader, writer: StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(PACKET):
            self._free_at = max(self._free_at, loop.time()) + len(data) / self._rate
            loop.call_at(self._free_at + self._delay_seconds, writer.write, data)
            await asyncio.sleep(self._free_at - loop.time() - QUEUE_SECONDS)
        loop.call_at(self._free_at + self._delay_seconds, writer.close)


class SlowLine:
    """A relay from ``port`` to *target_port*, both on 127.0.0.1. Use it in a ``with`` statement.

    *rate* is bytes a second each way, *delay_seconds* is one way.
    """

    def __init__(self, target_port: int, *, rate: float, delay_seconds: float) -> None:
        self._target_port = target_port
        self._up, self._down = (_Direction(rate, delay_seconds) for _ in range(2))
        self._socket = socket.create_server(("127.0.0.1", 0))
        _narrow(self._socket)
        self.port = int(self._socket.getsockname()[1])
        self._loop: AbstractEventLoop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._writers: list[StreamWriter] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> SlowLine:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def share(self, other: SlowLine) -> None:
        """Use the line of *other*; before the first connection."""
        self._up, self._down = other._up, other._down

    def _serve(self) -> None:
        self._loop.run_until_complete(self._relay())
        self._loop.run_until_complete(asyncio.sleep(0))  # what was aborted closes its socket
        self._loop.close()

    async def _relay(self) -> None:
        server = await asyncio.start_server(self._accepted, sock=self._socket, limit=PACKET)
        await self._end.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accepted(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._writers.append(writer)
        far_reader, far_writer = await asyncio.open_connection(
            "127.0.0.1", self._target_port, limit=PACKET
        )
        self._writers.append(far_writer)
        far = far_writer.get_extra_info("socket")
        _narrow(far)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                self._up.pass_on(reader, far_writer), self._down.pass_on(far_reader, writer)
            )


def _narrow(one: socket.socket) -> None:
    """Let the kernel take little, in packets so small that a full buffer is no closed window."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 2 * PACKET)
