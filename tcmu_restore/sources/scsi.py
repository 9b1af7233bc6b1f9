"""The little of SCSI that an initiator for one disk needs: CDBs, pages, sense data. Pure.

What is parsed here was sent by a peer, so nothing in it is trusted: a short or
odd page gives a default or a ValueError, never an assertion.

Source: SBC-4 (READ CAPACITY (16) 5.20, GET LBA STATUS 5.6, block limits page
6.6.4, provisioning page 6.6.9), SPC-5 (device identification page 7.7.6, unit
serial number page 7.7.19, sense data 4.4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

READ_16: Final = 0x88
WRITE_16: Final = 0x8A
WRITE_SAME_16: Final = 0x93
SYNCHRONIZE_CACHE_16: Final = 0x91

WRITE_SAME_UNMAP: Final = 0x08

PAGE_SUPPORTED: Final = 0x00
PAGE_SERIAL: Final = 0x80
PAGE_IDENTIFICATION: Final = 0x83
PAGE_BLOCK_LIMITS: Final = 0xB0
PAGE_PROVISIONING: Final = 0xB2

STATUS_GOOD: Final = 0x00
STATUS_CHECK_CONDITION: Final = 0x02
STATUS_CONDITION_MET: Final = 0x04
STATUS_BUSY: Final = 0x08
STATUS_RESERVATION_CONFLICT: Final = 0x18
STATUS_TASK_SET_FULL: Final = 0x28
STATUS_TASK_ABORTED: Final = 0x40
STATUS_LOST: Final = 0x0F000000
"""Not SCSI: the session ended before the command did (libiscsi's SCSI_STATUS_CANCELLED)."""

KEY_RECOVERED: Final = 0x1
KEY_NOT_READY: Final = 0x2
KEY_ILLEGAL_REQUEST: Final = 0x5
KEY_UNIT_ATTENTION: Final = 0x6
KEY_ABORTED: Final = 0xB

_KEY_NAMES: Final = {
    0x2: "not ready",
    0x3: "medium error",
    0x4: "hardware error",
    0x5: "illegal request",
    0x6: "unit attention",
    0x7: "data protect",
    0x8: "blank check",
    0xB: "aborted command",
    0xD: "volume overflow",
    0xE: "miscompare",
}
_STATUS_NAMES: Final = {
    STATUS_BUSY: "busy",
    STATUS_RESERVATION_CONFLICT: "reserved by another initiator",
    STATUS_TASK_SET_FULL: "task set full",
    STATUS_TASK_ABORTED: "task aborted",
}

ASC_RESET: Final = 0x29
"""Power on, reset, or bus device reset occurred; also I_T nexus loss (29/07)."""

_CHANGED: Final = (0x2A09, 0x3F03)
"""Capacity data has changed; inquiry data has changed: not the LUN that was examined."""

_DISK: Final = 0x00
_BLOCK_SIZE_MIN: Final = 512
_BLOCK_SIZE_MAX: Final = 65536

_CDB_16: Final = struct.Struct(">BBQIH")
_pack_cdb_16 = _CDB_16.pack


class Outcome(NamedTuple):
    """How one command ended."""

    status: int
    sense_key: int = 0
    asc_ascq: int = 0
    residual: int = 0
    """Bytes that were asked for and not moved."""

    def __str__(self) -> str:
        if self.status == STATUS_CHECK_CONDITION:
            name = _KEY_NAMES.get(self.sense_key, f"sense key {self.sense_key:x}")
            return f"{name} ({self.asc_ascq >> 8:02x}/{self.asc_ascq & 0xFF:02x})"
        if self.status == STATUS_GOOD:
            return f"{self.residual} bytes are missing from the answer"
        return _STATUS_NAMES.get(self.status, f"SCSI status {self.status:#04x}")


GOOD: Final = Outcome(STATUS_GOOD)
LOST: Final = Outcome(STATUS_LOST)


class Verdict(Enum):
    """What an outcome calls for."""

    GOOD = "good"
    RETRY_NOW = "a unit attention was reported instead of an answer"
    RETRY_LATER = "the device has no resources just now"
    REEXAMINE = "the LUN changed"
    LOST = "the session ended first"
    UNSUPPORTED = "the device does not know the command or its parameters"
    BUSY = "trying again at once won't help, later may"
    FAILED = "the device can't"


def judge(outcome: Outcome) -> Verdict:
    """Return what to do about *outcome*."""
    if outcome.status == STATUS_CHECK_CONDITION:
        return _judge_sense(outcome)
    if outcome.status in (STATUS_BUSY, STATUS_TASK_SET_FULL, STATUS_TASK_ABORTED):
        return Verdict.RETRY_LATER
    if outcome.status == STATUS_RESERVATION_CONFLICT:
        return Verdict.BUSY
    if outcome.status in (STATUS_GOOD, STATUS_CONDITION_MET):
        return Verdict.FAILED if outcome.residual else Verdict.GOOD
    return Verdict.LOST if outcome.status >= STATUS_LOST else Verdict.FAILED


def _judge_sense(outcome: Outcome) -> Verdict:
    key = outcome.sense_key
    if key == KEY_UNIT_ATTENTION:
        return Verdict.REEXAMINE if outcome.asc_ascq in _CHANGED else Verdict.RETRY_NOW
    if key in (KEY_NOT_READY, KEY_ABORTED):
        return Verdict.RETRY_LATER
    if key == KEY_ILLEGAL_REQUEST:
        return Verdict.UNSUPPORTED
    return Verdict.GOOD if key == KEY_RECOVERED and not outcome.residual else Verdict.FAILED


def is_reset(outcome: Outcome) -> bool:
    """Return whether the device says that it was reset: its volatile cache may be gone."""
    return outcome.sense_key == KEY_UNIT_ATTENTION and outcome.asc_ascq >> 8 == ASC_RESET


def encode_cdb_16(opcode: int, lba: int, block_count: int, flags: int = 0) -> bytes:
    """Return the CDB of READ, WRITE, WRITE SAME or SYNCHRONIZE CACHE (16): they share a layout."""
    return _pack_cdb_16(opcode, flags, lba, block_count, 0)


def encode_inquiry(length: int, page: int | None = None) -> bytes:
    """Return the CDB of INQUIRY, for a VPD page or the standard data."""
    return struct.pack(">BBBHB", 0x12, page is not None, page or 0, length, 0)


def encode_read_capacity(length: int) -> bytes:
    """Return the CDB of READ CAPACITY (16)."""
    return struct.pack(">BBQIH", 0x9E, 0x10, 0, length, 0)


def encode_get_lba_status(lba: int, length: int) -> bytes:
    """Return the CDB of GET LBA STATUS (16)."""
    return struct.pack(">BBQIH", 0x9E, 0x12, lba, length, 0)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What READ CAPACITY (16) says. Size and block size are bytes."""

    size: int
    block_size: int
    can_unmap: bool
    unmapped_is_zero: bool


def parse_capacity(data: bytes) -> Capacity:
    """Parse READ CAPACITY (16). Raises ValueError when the disk it describes cannot be used."""
    if len(data) < 12:  # noqa: PLR2004 - last LBA and block length
        raise ValueError("its READ CAPACITY answer is too short")
    last_lba, block_size = struct.unpack_from(">QI", data)
    if block_size & (block_size - 1) or not _BLOCK_SIZE_MIN <= block_size <= _BLOCK_SIZE_MAX:
        raise ValueError(f"its block size is {block_size}")
    size = (last_lba + 1) * block_size
    if size >> 63:
        raise ValueError(f"its size of {size} bytes is not plausible")
    flags = data[14] if len(data) > 14 else 0  # noqa: PLR2004 - LBPME, LBPRZ
    return Capacity(size, block_size, bool(flags & 0x80), bool(flags & 0x40))


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """What the block limits page says, in blocks; 0 where it says nothing."""

    transfer_max: int = 0
    unmap_granularity: int = 0
    unmap_alignment: int = 0
    write_same_max: int = 0


def parse_block_limits(page: bytes) -> BlockLimits:
    """Parse VPD page 0xB0, also an old short one."""
    page = page.ljust(44, b"\0")
    alignment = int.from_bytes(page[32:36], "big")
    return BlockLimits(
        transfer_max=int.from_bytes(page[8:12], "big"),
        unmap_granularity=int.from_bytes(page[28:32], "big"),
        unmap_alignment=alignment & 0x7FFFFFFF if alignment >> 31 else 0,
        write_same_max=min(int.from_bytes(page[36:44], "big"), 0xFFFFFFFF),
    )


def can_unmap_with_write_same(page: bytes) -> bool:
    """Return the LBPWS bit of VPD page 0xB2."""
    return len(page) > 5 and bool(page[5] & 0x40)  # noqa: PLR2004 - byte 5


def parse_supported_pages(page: bytes) -> frozenset[int]:
    """Parse VPD page 0x00."""
    length = int.from_bytes(page[2:4], "big")
    return frozenset(page[4 : 4 + length])


def check_is_disk(inquiry: bytes) -> None:
    """Raise ValueError unless standard INQUIRY data describes a disk that is there."""
    if not inquiry:
        raise ValueError("its INQUIRY answer is empty")
    qualifier, kind = inquiry[0] >> 5, inquiry[0] & 0x1F
    if qualifier != 0:
        raise ValueError("the target has no such LUN")
    if kind != _DISK:
        raise ValueError(f"the LUN is not a disk (device type {kind:#04x})")


def identity_of(identification: bytes, serial: bytes, vendor_product: str) -> str | None:
    """Return the best name of the LUN itself, from VPD pages 0x83 and 0x80 (either may be empty).

    NAA names come first, then EUI-64, then T10. The serial number is added, because some targets
    give the same "world-wide" name to the first LUN of every host (tgt does).
    """
    names = dict(_designators(identification))
    text = _printable(serial[4 : 4 + int.from_bytes(serial[2:4], "big")])
    name = names.get("naa") or names.get("eui") or names.get("t10")
    if name is None:
        name = vendor_product if text else None
    if name is None or not text:
        return name
    return f"{name}/serial.{text}"


def _designators(page: bytes) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of the designators of the logical unit. Source: SPC-5 7.7.6."""
    position, end = 4, min(len(page), 4 + int.from_bytes(page[2:4], "big"))
    while position + 4 <= end:
        association, kind = (page[position + 1] >> 4) & 3, page[position + 1] & 0xF
        value = page[position + 4 : min(end, position + 4 + page[position + 3])]
        position += 4 + page[position + 3]
        if association != 0 or not value:
            continue
        if kind == 3:  # noqa: PLR2004 - NAA
            yield "naa", f"naa.{value.hex()}"
        elif kind == 2:  # noqa: PLR2004 - EUI-64
            yield "eui", f"eui.{value.hex()}"
        elif kind == 1 and (text := _printable(value)):
            yield "t10", f"t10.{text}"


def vendor_product(inquiry: bytes) -> str:
    """Return ``vendor product`` of standard INQUIRY data."""
    return _printable(inquiry[8:32])


def _printable(data: bytes) -> str:
    """Return the text in *data* with blanks joined; anything not printable becomes '?'."""
    text = data.rstrip(b"\0").decode("ascii", errors="replace")
    return " ".join("".join(c if c.isprintable() and c.isascii() else "?" for c in text).split())


def parse_lba_status(data: bytes) -> list[tuple[int, int, bool]]:
    """Parse GET LBA STATUS into (first LBA, block count, is deallocated), in the device's order."""
    length = min(len(data) - 8, int.from_bytes(data[:4], "big") - 4)
    found: list[tuple[int, int, bool]] = []
    for position in range(8, 8 + length - 15, 16):
        lba, count, status = struct.unpack_from(">QIB", data, position)
        found.append((lba, count, status & 0x0F == 1))
    return found
