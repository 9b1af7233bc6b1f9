"""A small NBD server on a unix socket: one export, fixed newstyle handshake, simple replies.

It knows READ, WRITE, FLUSH, TRIM, WRITE_ZEROES and the FUA flag; that is what QEMU needs. A request
whose store raises OSError is answered with that error's number, and the connection goes on.
Protocol: doc/proto.md of the NBD project.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
from pathlib import Path
from typing import Final, Protocol

_INIT_MAGIC: Final = b"NBDMAGIC"
_OPTION_MAGIC: Final = b"IHAVEOPT"
_OPTION_REPLY_MAGIC: Final = 0x3E889045565A9
_REQUEST_MAGIC: Final = 0x25609513
_REPLY_MAGIC: Final = 0x67446698

_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_OPTION_EXPORT_NAME, _OPTION_ABORT, _OPTION_INFO, _OPTION_GO = 1, 2, 6, 7
_REPLY_ACK, _REPLY_INFO, _REPLY_UNSUPPORTED = 1, 3, (1 << 31) + 1
_INFO_EXPORT, _INFO_BLOCK_SIZE = 0, 3

# HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES
_EXPORT_FLAGS: Final = 0x01 | 0x04 | 0x08 | 0x20 | 0x40
_BLOCK_SIZES: Final = (512, 4096, 32 << 20)  # minimum, preferred, maximum

READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FUA: Final = 1

_OPTION = struct.Struct(">8sII")
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")


class NbdStore(Protocol):
    """What a server serves. Methods raise OSError for a failed request."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Return *length* bytes."""

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> None:
        """Write all of *data*."""

    def write_zeroes(self, offset: int, length: int, *, fua: bool = False) -> None:
        """Write zeros, or discard."""

    def flush(self) -> None:
        """Make durable what was written before."""


class NbdServer:
    """Serves one store; a thread takes connections, and each has a thread of its own."""

    def __init__(self, store: NbdStore, path: Path) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, daemon=True, name=f"nbd-{path.stem}")
        self._thread.start()

    def drop_connections(self) -> None:
        """End all connections; on return no request of theirs is under way."""
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):  # its peer was first
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join()

    def close(self) -> None:
        """Take no more connections and end those there are."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.drop_connections()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if _negotiate(connection, self._store.size):
                while _serve_request(connection, self._store):
                    pass
        except (OSError, EOFError):
            pass  # the peer has gone
        finally:
            with self._lock:
                del self._connections[connection]
            connection.close()


def _negotiate(connection: socket.socket, size: int) -> bool:
    """Do the handshake; return whether requests follow."""
    server_flags = struct.pack(">H", _FIXED_NEWSTYLE | _NO_ZEROES)
    connection.sendall(_INIT_MAGIC + _OPTION_MAGIC + server_flags)
    (client_flags,) = struct.unpack(">I", _receive(connection, 4))
    while True:
        magic, option, length = _OPTION.unpack(_receive(connection, _OPTION.size))
        _receive(connection, length)
        if magic != _OPTION_MAGIC:
            return False
        if option == _OPTION_EXPORT_NAME:
            padding = 0 if client_flags & _NO_ZEROES else 124
            connection.sendall(struct.pack(">QH", size, _EXPORT_FLAGS) + bytes(padding))
            return True
        connection.sendall(_answer_option(option, size))
        if option in (_OPTION_GO, _OPTION_ABORT):
            return bool(option == _OPTION_GO)


def _answer_option(option: int, size: int) -> bytes:
    if option == _OPTION_ABORT:
        return _option_reply(option, _REPLY_ACK)
    if option not in (_OPTION_INFO, _OPTION_GO):
        return _option_reply(option, _REPLY_UNSUPPORTED)
    export = struct.pack(">HQH", _INFO_EXPORT, size, _EXPORT_FLAGS)
    blocks = struct.pack(">HIII", _INFO_BLOCK_SIZE, *_BLOCK_SIZES)
    replies = [(_REPLY_INFO, export), (_REPLY_INFO, blocks), (_REPLY_ACK, b"")]
    return b"".join(_option_reply(option, kind, data) for kind, data in replies)


def _option_reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">QIII", _OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def _serve_request(connection: socket.socket, store: NbdStore) -> bool:
    """Answer one request; return whether another may follow."""
    header = _REQUEST.unpack(_receive(connection, _REQUEST.size))
    magic, flags, kind, handle, offset, length = header
    if magic != _REQUEST_MAGIC or kind == DISCONNECT:
        return False
    data = _receive(connection, length) if kind == WRITE else b""
    error, answer = 0, b""
    try:
        if offset + length > store.size:
            raise OSError(errno.EINVAL, "beyond the end")
        answer = _carry_out(store, kind, offset, length, data, fua=bool(flags & FUA))
    except OSError as failed:
        error = failed.errno or errno.EIO
    connection.sendall(_REPLY.pack(_REPLY_MAGIC, error, handle) + answer)
    return True


def _carry_out(
    store: NbdStore, kind: int, offset: int, length: int, data: bytes, *, fua: bool
) -> bytes:
    """Do what a request asks for; return what follows the reply."""
    if kind == READ:
        return store.read(offset, length)
    if kind == WRITE:
        store.write(offset, data, fua=fua)
    elif kind in (TRIM, WRITE_ZEROES):
        store.write_zeroes(offset, length, fua=fua)
    elif kind == FLUSH:
        store.flush()
    else:
        raise OSError(errno.EINVAL, "unknown request")
    return b""


def _receive(connection: socket.socket, length: int) -> bytes:
    """Return exactly *length* bytes. Raises EOFError when the peer has gone."""
    buffer = bytearray(length)
    view, got = memoryview(buffer), 0
    while got < length:
        count = connection.recv_into(view[got:])
        if count == 0:
            raise EOFError
        got += count
    return bytes(buffer)
