"""The disk with a volatile cache: what is flushed stays, the rest may go, sector by sector."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from vagrant.volatile_disk import CACHE_SIZE, VolatileDisk

from .nbd_client import NbdClient, NbdError

SIZE = 64 << 20
BLOCK = 4096


def block(letter: str, size: int = BLOCK) -> bytes:
    return letter.encode() * size


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[VolatileDisk]:
    disk = VolatileDisk(tmp_path / "disk.raw", SIZE, socket=tmp_path / "nbd", seed=1)
    yield disk
    disk.close()


@pytest.fixture
def client(disk: VolatileDisk) -> Iterator[NbdClient]:
    with NbdClient(disk.socket) as client:
        yield client


def reconnect(disk: VolatileDisk) -> NbdClient:
    return NbdClient(disk.socket)


def on_medium(disk: VolatileDisk, offset: int, length: int) -> bytes:
    with disk.path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def test_export_has_its_size_and_a_cache_to_flush(client: NbdClient) -> None:
    assert client.size == SIZE
    assert client.flags == 0x01 | 0x04 | 0x08 | 0x20 | 0x40


def test_write_is_read_back_at_once_and_on_the_medium_after_a_flush(
    disk: VolatileDisk, client: NbdClient
) -> None:
    client.write(BLOCK, block("a"))
    assert client.read(0, 3 * BLOCK) == bytes(BLOCK) + block("a") + bytes(BLOCK)
    assert on_medium(disk, BLOCK, BLOCK) == bytes(BLOCK)
    assert disk.cached_size == BLOCK
    client.flush()
    assert on_medium(disk, BLOCK, BLOCK) == block("a")
    assert disk.cached_size == 0


def test_fua_write_survives_a_power_cut(disk: VolatileDisk, client: NbdClient) -> None:
    client.write(0, block("a"), fua=True)
    disk.power_cut()
    with reconnect(disk) as again:
        assert again.read(0, BLOCK) == block("a")


def test_power_cut_keeps_the_flushed_and_loses_some_of_the_rest(
    disk: VolatileDisk, client: NbdClient
) -> None:
    for index in range(300):
        client.write(index * BLOCK, block("a"))
    client.flush()
    for index in range(300):
        client.write(index * BLOCK, block("b"))
    disk.power_cut()
    kinds = {"old": 0, "new": 0, "torn": 0}
    with reconnect(disk) as again:
        for index in range(300):
            data = again.read(index * BLOCK, BLOCK)
            sectors = {data[start : start + 512] for start in range(0, BLOCK, 512)}
            assert sectors <= {block("a", 512), block("b", 512)}
            whole = {block("a", 512): "old", block("b", 512): "new"}
            kinds[whole[sectors.pop()] if len(sectors) == 1 else "torn"] += 1
        assert on_medium(disk, 0, 300 * BLOCK) == again.read(0, 300 * BLOCK)
    assert min(kinds.values()) > 60, kinds


def test_power_cut_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    found = []
    for run in range(2):
        disk = VolatileDisk(tmp_path / f"{run}.raw", SIZE, socket=tmp_path / f"{run}", seed=5)
        with NbdClient(disk.socket) as client:
            for index in range(50):
                client.write(index * BLOCK, block("x"))
        disk.power_cut()
        found.append(on_medium(disk, 0, 50 * BLOCK))
        disk.close()
    assert found[0] == found[1]


def test_power_cut_may_leave_any_unflushed_version(disk: VolatileDisk, client: NbdClient) -> None:
    found = set()
    for _ in range(40):
        with reconnect(disk) as again:
            again.write(0, block("a", 512))
            again.flush()
            again.write(0, block("b", 512))
            again.write(0, block("c", 512))
        disk.power_cut()
        found.add(on_medium(disk, 0, 1))
    assert found == {b"a", b"b", b"c"}


def test_power_cut_ends_connections(disk: VolatileDisk, client: NbdClient) -> None:
    disk.power_cut()
    with pytest.raises((EOFError, OSError)):
        client.read(0, BLOCK)


@pytest.mark.parametrize("length", [BLOCK, 1 << 20])
def test_zeroes_and_trim_are_cached_like_writes(
    disk: VolatileDisk, client: NbdClient, length: int
) -> None:
    client.write(0, block("a", length))
    client.flush()
    client.write_zeroes(0, length // 2)
    client.trim(length // 2, length // 2)
    assert client.read(0, length) == bytes(length)
    assert on_medium(disk, 0, length) == block("a", length)
    client.flush()
    assert on_medium(disk, 0, length) == bytes(length)


def test_full_cache_writes_the_oldest_back(disk: VolatileDisk, client: NbdClient) -> None:
    step = 1 << 20
    for index in range(CACHE_SIZE // step + 1):
        client.write(index * step, block("a", step))
    assert disk.cached_size <= CACHE_SIZE
    assert on_medium(disk, 0, step) == block("a", step)
    assert on_medium(disk, CACHE_SIZE, step) == bytes(step)


def test_unreadable_sectors_fail_until_they_are_written(
    disk: VolatileDisk, client: NbdClient
) -> None:
    client.write(0, block("a", 4 * BLOCK))
    client.flush()
    disk.fail_reads(BLOCK, 512)
    with pytest.raises(NbdError) as failed:
        client.read(0, 4 * BLOCK)
    assert failed.value.number == errno.EIO
    assert client.read(2 * BLOCK, BLOCK) == block("a")
    client.write(BLOCK, block("b"))
    assert client.read(BLOCK, BLOCK) == block("b")
    assert disk.unreadable_size == 0


def test_unwritable_sectors_fail_until_healed(disk: VolatileDisk, client: NbdClient) -> None:
    disk.fail_writes(BLOCK, BLOCK)
    for _ in range(2):
        with pytest.raises(NbdError):
            client.write(0, block("a", 4 * BLOCK))
    client.write(4 * BLOCK, block("a"))
    assert client.read(0, 4 * BLOCK) == bytes(4 * BLOCK)
    disk.heal()
    client.write(BLOCK, block("a"))


def test_dead_disk_fails_everything_and_keeps_its_content(
    disk: VolatileDisk, client: NbdClient
) -> None:
    client.write(0, block("a"))
    disk.die()
    with pytest.raises(NbdError):
        client.read(0, BLOCK)
    with pytest.raises(NbdError):
        client.write(0, block("b"))
    with pytest.raises(NbdError):
        client.flush()
    disk.heal()
    assert client.read(0, BLOCK) == block("a")


def test_odd_requests_get_an_error_and_the_connection_goes_on(client: NbdClient) -> None:
    with pytest.raises(NbdError) as beyond:
        client.read(SIZE - 512, 1024)
    with pytest.raises(NbdError) as unknown:
        client.send_unknown()
    assert beyond.value.number == unknown.value.number == errno.EINVAL
    assert client.read(SIZE - 512, 512) == bytes(512)
    client.disconnect()
