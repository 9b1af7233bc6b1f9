"""What lab-load writes and lab-verify looks for: blocks and files that say what they are.

Each sector of a block names its block, its place in it and its generation, so that anything that
was not written to that block is recognised. A module of the lab's commands, installed beside them.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import zlib

BLOCK, SECTOR = 4096, 512
SECTORS = BLOCK // SECTOR
HEADER = struct.Struct("<8sQQII")  # magic, block, generation, sector of the block, checksum
MAGIC = b"lab-load"
PIECE = 256
"""Blocks of the largest request."""
FILES = 24


class WrongContentError(Exception):
    """What was read is not what may be there."""


def make_block(block: int, generation: int) -> bytes:
    """Return the content of a block."""
    sectors = []
    for index in range(SECTORS):
        start = HEADER.pack(MAGIC, block, generation, index, 0)[:-4]
        sectors.append((start + struct.pack("<I", zlib.crc32(start))) * (SECTOR // HEADER.size))
    return b"".join(sectors)


def generations(data: memoryview, block: int) -> set[int]:
    """Return the generations of a block's sectors."""
    found = set()
    for index in range(SECTORS):
        sector = bytes(data[index * SECTOR : (index + 1) * SECTOR])
        magic, number, generation, place, checksum = HEADER.unpack_from(sector)
        good = (magic, number, place) == (MAGIC, block, index)
        good = good and checksum == zlib.crc32(sector[: HEADER.size - 4])
        if not good or sector != sector[: HEADER.size] * (SECTOR // HEADER.size):
            where = f"block {block} sector {index}"
            raise WrongContentError(f"{where} holds what was never written: {sector[:64].hex()}")
        found.add(generation)
    return found


class Device:
    """A block device with direct I/O, for one thread."""

    def __init__(self, path: str, mode: int = os.O_RDWR) -> None:
        self.file = os.open(path, mode | os.O_DIRECT)
        self.buffer = mmap.mmap(-1, PIECE * BLOCK)
        self.view = memoryview(self.buffer)

    def write(self, first: int, blocks: list[bytes]) -> None:
        """Write blocks in one request."""
        length = len(blocks) * BLOCK
        self.view[:length] = b"".join(blocks)
        if os.pwritev(self.file, [self.view[:length]], first * BLOCK) != length:
            raise OSError(f"short write at block {first}")

    def read(self, first: int, count: int) -> memoryview:
        """Read blocks in one request; the answer is good until the next one."""
        view = self.view[: count * BLOCK]
        if os.preadv(self.file, [view], first * BLOCK) != count * BLOCK:
            raise OSError(f"short read at block {first}")
        return view

    def flush(self) -> None:
        """Make the device write its cache."""
        os.fdatasync(self.file)


def make_file(name: str, number: int) -> bytes:
    """Return the content of a generation of a file; its length depends on both."""
    chance = random.Random(f"{name} {number}")
    return f"{name} {number}\n".encode() + chance.randbytes(chance.randrange(1, 40_000))
