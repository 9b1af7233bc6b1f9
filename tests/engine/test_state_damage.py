"""Every damage to a state file is refused in one sentence, or harms nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcmu_restore.engine.state_db import StateDb, StoredState
from tcmu_restore.engine.state_files import WAL, StateFiles, beside, read_files
from tcmu_restore.engine.state_reading import check
from tcmu_restore.errors import StateCorruptError, StateNewerError

from .state_samples import SAMPLES, changed_state, flipped, made_files, put_files, zeroed

PAGE = 1024
FRAME = 24 + PAGE
LOG_HEADER = 32


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[StateFiles, StateFiles]:
    unclean, clean = made_files(tmp_path_factory.mktemp("state") / "v.db")
    assert len(unclean.wal) > 10 * FRAME
    assert not clean.wal
    return unclean, clean


@pytest.fixture(scope="module")
def unclean(samples: tuple[StateFiles, StateFiles]) -> StateFiles:
    return samples[0]


@pytest.fixture(scope="module")
def clean(samples: tuple[StateFiles, StateFiles]) -> StateFiles:
    return samples[1]


def outcome(files: StateFiles) -> StoredState | None:
    """What *files* are read as; None if they are refused in one sentence."""
    try:
        return check(files).stored
    except (StateCorruptError, StateNewerError) as error:
        return None if str(error).isprintable() else pytest.fail(str(error))


def used_bits(content: bytes) -> Iterator[int]:
    """The bits of all bytes that are not zero."""
    for index, byte in enumerate(content):
        if byte:
            yield from range(8 * index, 8 * index + 8)


def some_bits(content: bytes, number: int) -> list[int]:
    return random.Random(1).sample(range(8 * len(content)), number)


@pytest.fixture(scope="module")
def flips(clean: StateFiles) -> dict[int, str]:
    """What comes of flips in the database: every bit of used bytes, and some others."""
    true = changed_state()
    words = {}
    for bit in {*used_bits(clean.main), *some_bits(clean.main, 2000)}:
        found = outcome(replace(clean, main=flipped(clean.main, bit)))
        words[bit] = "refused" if found is None else "harmless" if found == true else "WRONG"
    return words


def test_no_flipped_bit_of_the_database_is_read_as_anything_else(flips: dict[int, str]) -> None:
    assert not [bit for bit, word in flips.items() if word == "WRONG"]
    assert list(flips.values()).count("refused") > 10_000


def test_no_flipped_bit_of_the_log_is_read_as_anything_else(unclean: StateFiles) -> None:
    true = changed_state()
    headers = [
        8 * start + bit
        for start in range(LOG_HEADER, len(unclean.wal), FRAME)
        for bit in range(0, 8 * 24, 5)
    ]
    for bit in [*range(8 * LOG_HEADER), *headers, *some_bits(unclean.wal, 1500)]:
        found = outcome(replace(unclean, wal=flipped(unclean.wal, bit)))
        assert found is None or (bit >= 8 * 16 and found == true), bit
    for bit in some_bits(unclean.main, 1000):
        assert outcome(replace(unclean, main=flipped(unclean.main, bit))) in (None, true), bit


def test_a_cut_or_zeroed_file_is_never_read_as_anything_else(
    samples: tuple[StateFiles, StateFiles],
) -> None:
    true = changed_state()
    for files in samples:
        for start in range(0, len(files.main), 512):
            cut = replace(files, main=files.main[:start])
            assert outcome(cut) is None or files.wal, start
            assert outcome(cut) in (None, true), start
            for length in (8, 512, PAGE):
                zero = replace(files, main=zeroed(files.main, start, length))
                assert outcome(zero) in (None, true), (start, length)


def test_a_cut_or_zeroed_log_is_never_read_as_anything_else(unclean: StateFiles) -> None:
    true = changed_state()
    frames = range(LOG_HEADER, len(unclean.wal), FRAME)
    for start in [0, *frames, *(start + 24 for start in frames), *range(0, len(unclean.wal), 512)]:
        assert outcome(replace(unclean, wal=unclean.wal[:start])) is None, start
        for length in (4, 512, FRAME, len(unclean.wal)):
            zero = replace(unclean, wal=zeroed(unclean.wal, start, length))
            assert outcome(zero) in (None, true), (start, length)


def test_without_a_mark_only_the_last_transaction_can_vanish(unclean: StateFiles) -> None:
    """What the docstring of ``state_reading`` says cannot be found out, and no more than that."""
    bare = replace(unclean, mark=None)
    before = check(bare).commits - 1
    transactions = transaction_starts(unclean.wal)
    assert len(transactions) == before
    for start, end in zip(transactions, [*transactions[1:], len(unclean.wal)], strict=True):
        for bit in random.Random(start).sample(range(8 * start, 8 * end), 150):
            files = replace(bare, wal=flipped(unclean.wal, bit))
            if start != transactions[-1]:
                assert outcome(files) is None, bit
            else:
                assert check(files).commits == before, bit


def test_damage_before_an_unfinished_transaction_is_found_without_a_mark(
    unclean: StateFiles,
) -> None:
    *_, damaged, unfinished = transaction_starts(unclean.wal)
    assert len(unclean.wal) == unfinished + 2 * FRAME
    torn = replace(unclean, wal=unclean.wal[:-FRAME], mark=None)
    assert check(torn).commits == check(unclean).commits - 1
    assert outcome(replace(torn, wal=flipped(torn.wal, 8 * damaged + 999))) is None


def transaction_starts(wal: bytes) -> list[int]:
    starts = [LOG_HEADER]
    for start in range(LOG_HEADER, len(wal) - FRAME, FRAME):
        if any(wal[start + 4 : start + 8]):
            starts.append(start + FRAME)
    return starts


@settings(max_examples=300)
@given(st.data())
def test_no_damage_at_all_ends_in_a_traceback_or_a_wrong_byte(
    samples: tuple[StateFiles, StateFiles], data: st.DataObject
) -> None:
    files = data.draw(st.sampled_from(samples))
    parts = {"main": bytearray(files.main), "wal": bytearray(files.wal)}
    for _ in range(data.draw(st.integers(1, 5))):
        part = parts[data.draw(st.sampled_from(sorted(key for key in parts if parts[key])))]
        start = data.draw(st.integers(0, len(part) - 1))
        junk = data.draw(st.binary(min_size=1, max_size=64) | st.just(bytes(512)))
        part[start : start + len(junk)] = junk[: len(part) - start]
    damaged = replace(files, main=bytes(parts["main"]), wal=bytes(parts["wal"]))
    assert outcome(damaged) in (None, changed_state())


@pytest.mark.parametrize("mark", [b"", b"short", bytes(16), b"\xff" * 16, b"x" * 400])
def test_a_damaged_mark_is_passed_over(tmp_path: Path, clean: StateFiles, mark: bytes) -> None:
    path = tmp_path / "v.db"
    put_files(path, clean)
    beside(path, "-mark").write_bytes(mark)
    assert StateDb.peek(path) == changed_state().facts


def test_an_old_copy_is_refused(tmp_path: Path, unclean: StateFiles) -> None:
    path = tmp_path / "v.db"
    for bit in range(8 * 16):
        put_files(path, unclean)
        beside(path, WAL).unlink()  # all but what ``create`` wrote
        mark = beside(path, "-mark")
        assert refused(path, "it holds commit 1, but commit 7 was durable")
        mark.write_bytes(flipped(mark.read_bytes(), bit))
        assert read_files(path).mark is None
    with pytest.raises(StateCorruptError, match="an old copy"):
        check(replace(unclean, wal=b""))


def refused(path: Path, match: str) -> bool:
    """Whether opening and peeking are refused and change no file in the folder."""
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    for look in (StateDb.open, StateDb.peek):
        with pytest.raises((StateCorruptError, StateNewerError), match=match):
            look(path)
    return before == {file: file.read_bytes() for file in path.parent.iterdir()}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda wal: flipped(wal, 8 * 100), "log is damaged after frame 0"),
        (lambda wal: flipped(wal, 8 * 20), "header of its write-ahead log is damaged"),
        (lambda wal: wal[:20], "have vanished"),
        (lambda wal: wal[: LOG_HEADER + 4 * FRAME], "have vanished"),
        (lambda wal: wal[:-FRAME], "have vanished"),
        (lambda wal: (SAMPLES / "state-v1.db-wal").read_bytes(), "belongs to another file"),
    ],
)
def test_a_damaged_log_is_refused_and_left_alone(
    tmp_path: Path, unclean: StateFiles, change: Callable[[bytes], bytes], match: str
) -> None:
    """SQLite itself would fold the beginning of the log into the database, and delete it."""
    path = tmp_path / "v.db"
    put_files(path, replace(unclean, wal=change(unclean.wal)))
    assert refused(path, match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda main: main[:-PAGE], "cut off"),
        (lambda main: main[:-1], "cut off"),
        (lambda main: main[:30], "cut off"),
        (lambda main: flipped(main, 8 * 19), "header"),
        (lambda main: flipped(main, 8 * 16), "header"),
        (lambda main: flipped(main, 8 * 28), "cut off"),
        (lambda main: zeroed(main, 28, 4), "cut off"),
        (lambda main: zeroed(main, 0, len(main)), "not a database"),
    ],
)
def test_a_damaged_database_is_refused_and_left_alone(
    tmp_path: Path, clean: StateFiles, change: Callable[[bytes], bytes], match: str
) -> None:
    path = tmp_path / "v.db"
    put_files(path, replace(clean, main=change(clean.main)))
    assert refused(path, match)


def test_a_short_database_is_refused_although_there_is_a_log(
    unclean: StateFiles,
) -> None:
    bare = replace(unclean, main=unclean.main[:PAGE])
    with pytest.raises(StateCorruptError, match="cut off"):
        check(replace(bare, wal=unclean.wal[: LOG_HEADER + 2 * FRAME], mark=None))


def test_a_flip_that_is_passed_over_does_no_harm_later(
    tmp_path: Path, clean: StateFiles, flips: dict[int, str]
) -> None:
    path = tmp_path / "v.db"
    true = changed_state()
    harmless = [bit for bit, word in flips.items() if word == "harmless" and clean.main[bit // 8]]
    assert harmless
    for bit in random.Random(1).sample(harmless, 25):
        put_files(path, replace(clean, main=flipped(clean.main, bit)))
        asyncio.run(changed_further(path))
        found = check(read_files(path)).stored
        assert found.armed_zones == true.armed_zones | set(range(100, 300))
        assert found.facts == {**true.facts, "merge": "done", "more": "x" * 3000}


async def changed_further(path: Path) -> None:
    db, _ = StateDb.open(path)
    db._connection.execute("PRAGMA synchronous = OFF")
    await db.commit_intent(range(100, 300), [])
    await db.commit_facts({"merge": "done", "more": "x" * 3000})
    await db.close()
