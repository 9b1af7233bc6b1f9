"""The index of an exported snapshot: found again, and checked record by record."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.sources.image_index import (
    RECORD_SIZE,
    Codec,
    ExtentIndex,
    Record,
    parse_records,
)
from tcmu_restore.sources.image_manifest import PART_SIZE, ImageHeader
from tcmu_restore.units import KiB

EXTENT = 64 * KiB
HEADER = ImageHeader("naa.1", "f", "2026-01-02T03:04:05+00:00", 9 * EXTENT + 512, 512, EXTENT)
DIGEST = bytes(range(32))
FIRST = Record(1, 0, 0, EXTENT, Codec.RAW, DIGEST)
SECOND = Record(4, 0, EXTENT, 700, Codec.ZSTD, DIGEST)
LAST = Record(9, 1, 0, 512, Codec.RAW, DIGEST)


def index(*records: Record) -> ExtentIndex:
    return ExtentIndex(b"".join(record.encode() for record in records), HEADER)


def test_records_are_found_and_holes_are_none() -> None:
    found = index(FIRST, SECOND, LAST)
    assert [found.find(number) for number in (1, 4, 9)] == [FIRST, SECOND, LAST]
    assert [found.find(number) for number in (0, 2, 5, 8, 10, 2**63)] == [None] * 6
    assert len(found) == 3
    assert len(index()) == 0


@pytest.mark.parametrize(
    "second",
    [
        SECOND._replace(extent=1),  # twice
        SECOND._replace(extent=0),  # out of order
        SECOND._replace(extent=10),  # beyond the end
        SECOND._replace(extent=2**64 - 1),
        SECOND._replace(offset=EXTENT - 1),  # overlaps
        SECOND._replace(offset=0),
        SECOND._replace(length=0),
        SECOND._replace(length=EXTENT),  # not smaller than raw
        SECOND._replace(length=2**32 - 1),
        SECOND._replace(codec=Codec.RAW),  # short
        SECOND._replace(codec=2),
        SECOND._replace(offset=PART_SIZE - 699),
        SECOND._replace(offset=2**32 - 1),
        Record(9, 0, EXTENT, EXTENT, Codec.RAW, DIGEST),  # the last extent is shorter
    ],
    ids=str,
)
def test_impossible_record_is_refused(second: Record) -> None:
    with pytest.raises(ValueError, match="the index"):
        index(FIRST, second)


def test_part_that_goes_back_is_refused() -> None:
    with pytest.raises(ValueError, match="out of order"):
        index(FIRST._replace(part=1), SECOND)


def test_index_that_is_cut_off_is_refused() -> None:
    with pytest.raises(ValueError, match="cut off"):
        ExtentIndex(FIRST.encode()[:-1], HEADER)


@given(st.binary(max_size=5 * RECORD_SIZE))
def test_any_bytes_give_sound_records_or_are_refused(data: bytes) -> None:
    data = data[: len(data) - len(data) % RECORD_SIZE]
    try:
        records = list(parse_records(data, HEADER))
    except ValueError:
        return
    for record in records:
        assert record.extent < HEADER.extent_count
        assert 0 < record.length <= HEADER.extent_length(record.extent)


_RECORDS = st.builds(
    Record,
    st.integers(0, 10),
    st.integers(0, 2),
    st.integers(0, 8).map(lambda count: count * EXTENT),
    st.sampled_from([512, 700, EXTENT]),
    st.integers(0, 2),
    st.just(DIGEST),
)


@given(st.lists(_RECORDS, max_size=4))
def test_accepted_places_never_overlap(records: list[Record]) -> None:
    data = b"".join(record.encode() for record in records)
    try:
        found = list(parse_records(data, HEADER))
    except ValueError:
        return
    assert found == records
    places = [(record.part, record.offset, record.offset + record.length) for record in found]
    for before, after in pairwise(places):
        assert before[0] < after[0] or before[2] <= after[1]
    assert len({record.extent for record in found}) == len(found)


def test_header_of_one_extent() -> None:
    small = replace(HEADER, size=512)
    assert small.extent_count == 1
    assert small.extent_length(0) == 512
