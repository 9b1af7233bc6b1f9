"""An iSCSI target in the test's own loop that answers as a test tells it to.

It knows just enough of RFC 7143 to be logged in to: one connection a session, no
digests, no CHAP, writes only as immediate data (up to 8 KiB). By default it is a
RAM disk. What a real target does only on bad days is put into ``script``.
"""

from __future__ import annotations

import asyncio
import struct
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from tcmu_restore.sources import scsi

IQN = "iqn.2024-01.test.example:scripted"
BLOCK = 512


@dataclass
class Reply:
    """How a command ends. ``None`` instead of one: never."""

    data: bytes = b""
    status: int = scsi.STATUS_GOOD
    sense: tuple[int, int] | None = None
    """Sense key, and ASC and ASCQ as one number; makes the status CHECK CONDITION."""
    residual: int = 0


Answer = Callable[[bytes, bytes], Reply | None]
"""Given the CDB and the data that came with it."""


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Let the loop run until *condition* holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the code under test tells nobody
            await asyncio.sleep(0)


class ScriptedTarget:
    """Use it in an ``async with`` statement.

    ``script`` holds (opcode, answer) pairs; the first pair whose opcode is that of a command is
    used up by it.
    """

    def __init__(self, size: int = 1 << 20) -> None:
        self.disk = bytearray(size)
        self.script: deque[tuple[int, Answer]] = deque()
        self.pages: dict[int, bytes] = {}
        self.provisioning = 0
        self.login_status = 0
        self.login_text = b""
        self.login_padding = b"\0"
        """Fills a login response to a multiple of four bytes; LIO leaves old bytes in it."""
        self.accepts_logins = True
        self.isids: list[bytes] = []
        self.commands: list[bytes] = []
        self.unanswered: list[tuple[StreamWriter, bytes, bytes, bytes]] = []
        self.tamper: Callable[[bytearray, bytes], bytes] | None = None
        """May change each answer's header, and returns its data; called before it is sent."""
        self.seen = asyncio.Event()
        """Set when a command was not answered."""
        self.connections: list[StreamWriter] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"iscsi://127.0.0.1:{self.port}/{IQN}/0"

    def always(self, opcode: int, answer: Answer, count: int = 1) -> None:
        """Answer the next *count* commands of *opcode* with *answer*."""
        self.script.extend([(opcode, answer)] * count)

    async def __aenter__(self) -> ScriptedTarget:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        await self._server.wait_closed()

    def drop(self) -> None:
        """Cut every connection."""
        for writer in self.connections:
            writer.transport.abort()
        self.connections.clear()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                header = await reader.readexactly(48)
                length = int.from_bytes(header[5:8], "big")
                data = (await reader.readexactly(-(-length // 4) * 4))[:length]
                if not self._pdu(writer, header, data):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if writer in self.connections:
                self.connections.remove(writer)
            writer.close()

    def _pdu(self, writer: StreamWriter, header: bytes, data: bytes) -> bool:
        opcode = header[0] & 0x3F
        if opcode == 0x03:
            return self._login(writer, header)
        if opcode == 0x00 and header[16:20] != b"\xff" * 4:
            self._send(writer, header, 0x20, 0x80, ttt=0xFFFFFFFF)
        elif opcode == 0x06:
            self._send(writer, header, 0x26, 0x80)
        elif opcode == 0x01:
            self._command(writer, header, data)
        return True

    def _login(self, writer: StreamWriter, header: bytes) -> bool:
        if not self.accepts_logins:
            return False
        self.isids.append(header[8:14])
        status = self.login_status
        flags = 0 if status else header[1]
        text = b"TargetAddress=127.0.0.1:9,1\0" if status == 0x0101 else self.login_text
        pdu = bytearray(48)
        pdu[0], pdu[1] = 0x23, flags
        pdu[5:8] = len(text).to_bytes(3, "big")
        pdu[8:14], pdu[14:16] = header[8:14], b"\0\1"
        pdu[16:20] = header[16:20]
        self._numbers(pdu, header)
        pdu[36:38] = status.to_bytes(2, "big")
        writer.write(bytes(pdu) + text.ljust(-(-len(text) // 4) * 4, self.login_padding))
        return True

    def _command(self, writer: StreamWriter, header: bytes, data: bytes) -> None:
        cdb = header[32:48]
        self.commands.append(cdb)
        answer: Answer = self._ram_disk
        for index, (opcode, scripted) in enumerate(self.script):
            if opcode == cdb[0]:
                del self.script[index]
                answer = scripted
                break
        reply = answer(cdb, data)
        if reply is None:
            self.unanswered.append((writer, header, cdb, data))
            self.seen.set()
        else:
            self.answer(writer, header, reply)

    def answer(self, writer: StreamWriter, header: bytes, reply: Reply) -> None:
        """Send *reply* to the command of *header*, also a late one."""
        wanted = int.from_bytes(header[20:24], "big")
        if reply.sense is not None:
            key, code = reply.sense
            sense = struct.pack(">BBB4xB4xH4x", 0x70, 0, key, 10, code)
            payload = len(sense).to_bytes(2, "big") + sense
            self._send(writer, header, 0x21, 0x80, status=scsi.STATUS_CHECK_CONDITION, data=payload)
        elif reply.status != scsi.STATUS_GOOD or not header[1] & 0x40:
            self._send(writer, header, 0x21, 0x80, status=reply.status)
        else:
            data = reply.data[:wanted]
            missing = wanted - len(data) + reply.residual
            flags = 0x81 | (0x02 if missing else 0)
            self._send(writer, header, 0x25, flags, ttt=0xFFFFFFFF, data=data, residual=missing)

    def _send(
        self,
        writer: StreamWriter,
        header: bytes,
        opcode: int,
        flags: int,
        *,
        status: int = 0,
        ttt: int = 0,
        data: bytes = b"",
        residual: int = 0,
    ) -> None:
        pdu = bytearray(48)
        pdu[0], pdu[1], pdu[3] = opcode, flags, status
        pdu[5:8] = len(data).to_bytes(3, "big")
        pdu[16:20] = header[16:20]
        pdu[20:24] = ttt.to_bytes(4, "big")
        self._numbers(pdu, header)
        pdu[44:48] = residual.to_bytes(4, "big")
        if self.tamper is not None and opcode in (0x21, 0x25):
            data = self.tamper(pdu, data)
        writer.write(bytes(pdu) + data.ljust(-(-len(data) // 4) * 4, b"\0"))

    @staticmethod
    def _numbers(pdu: bytearray, header: bytes) -> None:
        """Fill in StatSN, ExpCmdSN and MaxCmdSN, with a window that never closes."""
        command = int.from_bytes(header[24:28], "big")
        pdu[24:36] = struct.pack(">III", 1, command & 0xFFFFFFFF, (command + 1000) & 0xFFFFFFFF)

    def _ram_disk(self, cdb: bytes, data: bytes) -> Reply:
        lba, count = struct.unpack_from(">QI", cdb, 2)
        start, end = lba * BLOCK, (lba + count) * BLOCK
        if cdb[0] == 0x12:
            return self._inquiry(cdb)
        if cdb[:2] == b"\x9e\x10":
            last = len(self.disk) // BLOCK - 1
            return Reply(struct.pack(">QIBBB17x", last, BLOCK, 0, 0, self.provisioning))
        if cdb[0] == scsi.READ_16:
            return Reply(bytes(self.disk[start:end]))
        if cdb[0] == scsi.WRITE_16:
            self.disk[start:end] = data
        elif cdb[0] == scsi.WRITE_SAME_16:
            self.disk[start:end] = data * count
        elif cdb[0] not in {0x00, scsi.SYNCHRONIZE_CACHE_16}:
            return Reply(sense=(scsi.KEY_ILLEGAL_REQUEST, 0x2000))
        return Reply()

    def _inquiry(self, cdb: bytes) -> Reply:
        if not cdb[1] & 1:
            return Reply(bytes(8) + b"SCRIPTED" + b"RAM disk".ljust(16) + b"1   ")
        if cdb[2] == 0:
            return Reply(bytes([0, 0, 0, len(self.pages), *sorted(self.pages)]))
        if cdb[2] in self.pages:
            return Reply(self.pages[cdb[2]])
        return Reply(sense=(scsi.KEY_ILLEGAL_REQUEST, 0x2400))
