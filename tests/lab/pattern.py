"""Guest scripts that write and digest known bytes with direct I/O."""

from __future__ import annotations

MIB = 1 << 20
_BLOCK = 64 * 1024

RANDOM_FILL = "dd if=/dev/urandom of=$dev bs=1M count={} iflag=fullblock oflag=direct status=none"


def write_pattern(device: str, offset: int, length: int, seed: str) -> str:
    """A script that writes pseudo-random bytes made of *seed*, with direct I/O, and flushes."""
    assert offset % _BLOCK == 0
    assert length % _BLOCK == 0
    return (
        f"python3 -c 'import random, sys; "
        f'sys.stdout.buffer.write(random.Random("{seed}").randbytes({length}))\' '
        f"| dd of={device} bs={_BLOCK} seek={offset // _BLOCK} count={length // _BLOCK} "
        f"iflag=fullblock oflag=direct conv=notrunc,fsync status=none"
    )


def digest_at(device: str, offset: int, length: int) -> str:
    """A script that prints the digest of some bytes of *device*."""
    return (
        f"dd if={device} bs={_BLOCK} skip={offset} count={length} "
        "iflag=direct,skip_bytes,count_bytes status=none | sha256sum"
    )
