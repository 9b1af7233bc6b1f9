"""A small NBD client, as QEMU's is: option GO, simple replies, one request at a time."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Self

from vagrant.nbd import DISCONNECT, FLUSH, FUA, READ, TRIM, WRITE, WRITE_ZEROES

OPTION_GO, OPTION_LIST = 7, 3


class NbdError(Exception):
    """The server answered a request with an error number."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"error {number}")


class NbdClient:
    """A connection; `size` and `flags` are what the export has."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self._handle = 0
        assert self.receive(18) == b"NBDMAGICIHAVEOPT\x00\x03"
        self._socket.sendall(struct.pack(">I", 3))
        kinds = dict(self._option(OPTION_LIST))
        assert list(kinds) == [(1 << 31) + 1], "LIST is not supported, and says so"
        infos = [data for kind, data in self._option(OPTION_GO, bytes(6)) if kind == 3]
        _, self.size, self.flags = struct.unpack(">HQH", infos[0])
        assert struct.unpack(">HIII", infos[1])[1] == 512

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _option(self, option: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        self._socket.sendall(b"IHAVEOPT" + struct.pack(">II", option, len(data)) + data)
        replies: list[tuple[int, bytes]] = []
        while not replies or replies[-1][0] == 3:
            magic, number, kind, length = struct.unpack(">QIII", self.receive(20))
            assert magic == 0x3E889045565A9
            assert number == option
            replies.append((kind, self.receive(length)))
        return replies

    def receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self._socket.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _request(
        self, kind: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0
    ) -> None:
        self._handle += 1
        header = struct.pack(">IHHQQI", 0x25609513, flags, kind, self._handle, offset, length)
        self._socket.sendall(header + data)
        if kind == DISCONNECT:
            return
        magic, error, handle = struct.unpack(">IIQ", self.receive(16))
        assert magic == 0x67446698
        assert handle == self._handle
        if error:
            raise NbdError(error)

    def read(self, offset: int, length: int) -> bytes:
        self._request(READ, offset, length)
        return self.receive(length)

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> None:
        self._request(WRITE, offset, len(data), data, FUA if fua else 0)

    def write_zeroes(self, offset: int, length: int) -> None:
        self._request(WRITE_ZEROES, offset, length)

    def trim(self, offset: int, length: int) -> None:
        self._request(TRIM, offset, length)

    def flush(self) -> None:
        self._request(FLUSH)

    def send_unknown(self) -> None:
        self._request(99)

    def disconnect(self) -> None:
        self._request(DISCONNECT)
