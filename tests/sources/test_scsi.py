"""Pages and sense data, from good devices and from noise."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.sources import scsi
from tcmu_restore.sources.scsi import Outcome, Verdict


def designator(kind: int, value: bytes, association: int = 0) -> bytes:
    return bytes([1, association << 4 | kind, 0, len(value)]) + value


def page(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0, code, len(body)) + body


NAA = designator(3, bytes.fromhex("60014051234567890123456789abcdef"))
EUI = designator(2, bytes.fromhex("0011223344556677"))
T10 = designator(1, b"LIO-ORG disk0:1234")
SERIAL = page(0x80, b" 1234 \0")


@pytest.mark.parametrize(
    ("designators", "serial", "expected"),
    [
        (T10 + EUI + NAA, b"", "naa.60014051234567890123456789abcdef"),
        (T10 + EUI, SERIAL, "eui.0011223344556677/serial.1234"),
        (T10, SERIAL, "t10.LIO-ORG disk0:1234/serial.1234"),
        (designator(3, b"port1234", association=1) + T10, b"", "t10.LIO-ORG disk0:1234"),
        (b"", SERIAL, "Vendor Product/serial.1234"),
        (b"", b"", None),
        (designator(1, b"a\xff\x1b[31m b"), b"", "t10.a??[31m b"),
        (NAA[:-3], b"", "naa.60014051234567890123456789"),
        (designator(3, b""), b"", None),
    ],
)
def test_best_identity_is_chosen(designators: bytes, serial: bytes, expected: str | None) -> None:
    assert scsi.identity_of(page(0x83, designators), serial, "Vendor Product") == expected


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_any_bytes_give_a_printable_identity_or_none(identification: bytes, serial: bytes) -> None:
    identity = scsi.identity_of(identification, serial, "v")
    assert identity is None or identity.isprintable()
    scsi.parse_supported_pages(identification)
    scsi.parse_block_limits(identification)
    scsi.can_unmap_with_write_same(identification)
    for lba, count, _ in scsi.parse_lba_status(identification):
        assert lba >= 0
        assert count >= 0


@given(st.binary(max_size=32))
def test_any_capacity_is_usable_or_refused(data: bytes) -> None:
    try:
        capacity = scsi.parse_capacity(data)
    except ValueError:
        return
    assert 0 < capacity.size < 1 << 63
    assert capacity.size % capacity.block_size == 0
    assert capacity.block_size & (capacity.block_size - 1) == 0


def test_capacity_of_a_thin_disk() -> None:
    data = struct.pack(">QIBBB17x", 2047, 4096, 0, 0, 0xC0)
    assert scsi.parse_capacity(data) == scsi.Capacity(8 << 20, 4096, True, True)


def test_block_limits_of_an_old_short_page() -> None:
    assert scsi.parse_block_limits(bytes(8) + b"\0\0\2\0") == scsi.BlockLimits(transfer_max=512)


@pytest.mark.parametrize("inquiry", [b"", b"\x7f" + bytes(35), b"\x05" + bytes(35), b"\x20"])
def test_what_is_no_disk_is_refused(inquiry: bytes) -> None:
    with pytest.raises(ValueError, match=r"LUN|empty"):
        scsi.check_is_disk(inquiry)


@given(st.integers(0, 0x0F000003) | st.integers(0, 255), st.integers(0, 15), st.integers(0, 0xFFFF))
def test_every_outcome_has_a_verdict_and_a_name(status: int, key: int, code: int) -> None:
    outcome = Outcome(status, key, code)
    assert isinstance(scsi.judge(outcome), Verdict)
    assert str(outcome).isprintable()


def test_cdb_has_the_bytes_of_the_standard() -> None:
    cdb = scsi.encode_cdb_16(scsi.READ_16, 0x0102030405060708, 0x090A0B0C)
    assert cdb.hex() == "88000102030405060708090a0b0c0000"
    assert scsi.encode_inquiry(252, 0x83).hex() == "12018300fc00"
    assert scsi.encode_read_capacity(32).hex() == "9e100000000000000000000000200000"
