"""Access counts: what is hot, how they decay, how little they take."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.core import heat as module
from tcmu_restore.core.geometry import Geometry
from tcmu_restore.core.heat import COUNTED_MAX, HALF_LIFE_SECONDS, Heat
from tcmu_restore.units import GiB, MiB, TiB


def heat_of(size: int = 1 * GiB) -> Heat:
    return Heat(Geometry(size, 512, 4096, 4 * MiB))


def access(heat: Heat, chunk: int, times: int) -> None:
    """Access *chunk* many times, and chunk 0 in between."""
    for _ in range(times):
        heat.count(chunk * heat.chunk_size, 4096)
        heat.count(0, 4096)


def test_chunks_are_hot_from_the_most_to_the_least_accessed() -> None:
    heat = heat_of()
    access(heat, 7, 20)
    access(heat, 900, 40)
    access(heat, 3, 1)
    assert heat.hot_chunks() == [0, 900, 7]
    assert list(heat.regions_of(7)) == list(range(7 * 256, 8 * 256))


def test_scan_with_small_commands_makes_nothing_hot() -> None:
    heat = heat_of()
    for offset in range(0, 64 * MiB, 4096):
        heat.count(offset, 4096)
    assert heat.accesses == 64
    assert heat.hot_chunks() == []


def test_random_reads_of_everything_make_little_hot() -> None:
    heat, rng = heat_of(64 * MiB), Random(1)
    for _ in range(64 * 200):
        heat.count(rng.randrange(64 * MiB // 4096) * 4096, 4096)
    assert heat.hot_chunks() == []


def test_access_across_chunks_counts_in_each() -> None:
    heat = heat_of()
    heat.count(MiB - 512, 2 * MiB)
    assert heat.by_cell(1024)[:4] == [1, 1, 1, 0]


@pytest.mark.parametrize("size", [1 * MiB, 1 * TiB, 64 * TiB, 64 * TiB + 512])
def test_memory_is_bounded_whatever_the_volume(size: int) -> None:
    heat, rng = heat_of(size), Random(2)
    hot = [rng.randrange(heat.chunk_count) for _ in range(50)]
    for turn in range(5 * COUNTED_MAX):
        heat.count(rng.randrange(size // 512) * 512, 512)
        heat.count(hot[turn % 50] * heat.chunk_size, 512)
    assert heat.chunk_count <= module.CHUNKS_MAX + 1
    assert len(heat.as_fact()["counts"]) <= 2 * COUNTED_MAX
    assert len(json.dumps(heat.as_fact())) < 128 * 1024
    if heat.chunk_count > COUNTED_MAX:
        assert set(heat.hot_chunks()[:40]) <= set(hot)  # a storm of cold accesses hides nothing


def test_counts_are_halved_after_an_hour_of_as_many_accesses() -> None:
    heat = heat_of()
    heat.decay(0.0)
    access(heat, 5, 64)
    heat.decay(HALF_LIFE_SECONDS - 1)
    assert heat.accesses == 128
    heat.decay(HALF_LIFE_SECONDS)
    assert heat.accesses == 64
    assert heat.by_cell(1024)[5] == 32
    access(heat, 6, 4)
    heat.decay(3 * HALF_LIFE_SECONDS)  # a quiet time forgets nothing
    assert heat.by_cell(1024)[5] == 32


@given(
    st.lists(st.tuples(st.integers(0, GiB // 512 - 1), st.integers(1, 4096)), max_size=60),
)
def test_counts_survive_being_kept(accesses: list[tuple[int, int]]) -> None:
    heat, again = heat_of(), heat_of()
    for block, blocks in accesses:
        length = min(blocks * 512, GiB - block * 512)
        heat.count(block * 512, length)
    again.restore(json.loads(json.dumps(heat.as_fact())))
    assert again.as_fact() == heat.as_fact()
    assert again.hot_chunks() == heat.hot_chunks()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(_JSON, _JSON, _JSON)
def test_any_other_value_is_passed_over(size: object, accesses: object, counts: object) -> None:
    heat = heat_of()
    heat.restore(counts)
    heat.restore({"chunk_size": size, "accesses": accesses, "counts": counts})
    heat.restore({"chunk_size": heat.chunk_size, "accesses": 7, "counts": counts})
    assert all(0 <= chunk < heat.chunk_count for chunk in heat.hot_chunks())
    heat.count(0, 512)
    heat.decay(1e9)


def test_chunks_beyond_the_volume_and_other_grains_are_passed_over() -> None:
    heat = heat_of(4 * MiB)
    heat.restore({"chunk_size": 2 * MiB, "accesses": 9, "counts": [0, 9]})
    assert heat.accesses == 0
    heat.restore({"chunk_size": MiB, "accesses": 10, "counts": [3, 9, 1, 50]})
    assert heat.hot_chunks() == [3]


@given(st.integers(1, 256), st.integers(1, 40))
def test_parts_of_a_volume_have_the_counts_of_what_reaches_into_them(
    cells: int, chunks: int
) -> None:
    heat = heat_of(chunks * MiB)
    for chunk in range(chunks):
        heat.count(chunk * MiB, 512)
    found = heat.by_cell(cells)
    assert len(found) == cells
    assert all(found)  # no part is passed over
    if cells <= chunks and chunks % cells == 0:
        assert found == [chunks // cells] * cells


def test_volume_that_grew_counts_in_the_new_area_too() -> None:
    heat = heat_of(4 * MiB)
    access(heat, 3, 20)
    heat.grow(Geometry(8 * MiB, 512, 4096, 4 * MiB))
    access(heat, 7, 30)
    assert (heat.size, heat.chunk_count) == (8 * MiB, 8)
    assert heat.by_cell(8)[7] == 30
