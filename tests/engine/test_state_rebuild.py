"""A rebuilt state: all is lost, nothing stale is forgotten silently, no crash loses the old one."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pyroaring import BitMap64

from tcmu_restore.core.geometry import Geometry
from tcmu_restore.core.intent_log import recover_after_unclean_stop
from tcmu_restore.core.overwrite_map import OverwriteMap
from tcmu_restore.core.region_sets import CHUNK_REGIONS
from tcmu_restore.engine.state_db import StateDb, StoredState
from tcmu_restore.engine.state_files import NOTE, WAL, StateFiles, beside, read_files
from tcmu_restore.engine.state_reading import check, load
from tcmu_restore.engine.state_rebuild import RebuildReport, rebuild
from tcmu_restore.engine.state_salvage import Salvage, salvage
from tcmu_restore.engine.state_schema import KINDS, checksum_of
from tcmu_restore.engine.state_wal import parse_log
from tcmu_restore.errors import StateCorruptError, StateNewerError, StateWriteError

from .state_samples import (
    FACTS,
    REGION,
    ZONE,
    changed_state,
    flipped,
    made_files,
    put_files,
    zeroed,
)
from .test_state_samples import copied

NOW = datetime(2026, 11, 22, 18, 52, 7, tzinfo=UTC)
NEW = {**FACTS, "primary_identity": "file:/srv/new.img"}
COUNT = 3 * CHUNK_REGIONS
PER_ZONE = ZONE // REGION
PAGE = 1024


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[StateFiles, StateFiles]:
    return made_files(tmp_path_factory.mktemp("state") / "v.db")


@pytest.fixture
def unclean(samples: tuple[StateFiles, StateFiles], tmp_path: Path) -> StateFiles:
    """A state as a crash leaves it, at ``tmp_path``."""
    files = replace(samples[0], path=tmp_path / "v.db")
    put_files(files.path, files)
    return files


def lost_by_the_core(old: StoredState) -> OverwriteMap:
    """What the core makes of *old* after an unclean stop and the loss of the primary."""
    overwrite_map = OverwriteMap(COUNT, old.sets)
    recover_after_unclean_stop(
        old.armed_zones, overwrite_map, Geometry(FACTS["size"], 512, REGION, ZONE)
    )
    overwrite_map.mark_lost(overwrite_map.sets.current.copy())
    return overwrite_map


def test_a_sound_state_becomes_what_the_core_makes_of_a_loss(unclean: StateFiles) -> None:
    report = rebuild(unclean.path, NEW, now=NOW)
    stored = load(unclean.path).stored
    expected = lost_by_the_core(changed_state()).sets
    assert stored.facts == NEW
    assert stored.armed_zones == {5, 9}
    assert not stored.sets.current
    assert stored.sets.outdated == expected.outdated
    assert expected.in_doubt.issubset(stored.sets.in_doubt)
    assert (stored.sets.in_doubt - expected.in_doubt).issubset(expected.outdated)
    aside = unclean.path.with_name("v.db.damaged-20261122T185207Z")
    assert report == RebuildReport(
        regions_lost=COUNT,
        regions_outdated=len(expected.outdated),
        zones_in_doubt=2,
        unreadable_parts=(),
        region_size=REGION,
        moved_to=str(aside),
    )
    assert {41, 42, 99, 5 * PER_ZONE + 3, CHUNK_REGIONS + 7} == set(stored.sets.outdated)
    assert f"Up to {report.regions_outdated * REGION} bytes" in report.cost()
    assert "unknown" not in report.cost()
    assert check(read_files(aside)).stored == changed_state()
    assert sorted(file.name for file in aside.parent.iterdir()) == [
        "v.db", aside.name, f"{aside.name}-mark", f"{aside.name}-wal",
    ]  # fmt: skip


def test_a_state_with_nothing_stale_costs_no_write(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, FACTS)
    report = rebuild(path, NEW, now=NOW)
    assert (report.regions_outdated, report.zones_in_doubt) == (0, 0)
    assert report.cost() == "No acknowledged write is given up: the backup has them all."
    again = rebuild(path, FACTS, now=NOW)
    assert report.moved_to is not None
    assert again.moved_to == f"{report.moved_to}-2"
    assert load(path).stored.facts == FACTS


@pytest.mark.parametrize("content", [None, b"", b"junk" * 1000, bytes(8192)])
def test_of_an_unreadable_state_everything_is_in_doubt(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "v.db"
    if content is not None:
        path.write_bytes(content)
    report = rebuild(path, NEW, now=NOW)
    assert (report.moved_to is None) == (content is None)
    assert report.unreadable_parts
    assert "unknown" in report.cost()
    assert "given up" in report.cost()
    stored = load(path).stored
    assert (len(stored.sets.in_doubt), len(stored.sets.outdated)) == (COUNT, 0)


def test_a_file_that_cannot_be_read_at_all_is_moved_away(
    unclean: StateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        with pytest.raises(StateCorruptError, match="Input/output error"):
            StateDb.open(unclean.path)
        report = rebuild(unclean.path, NEW, now=NOW)
    assert report.unreadable_parts == ("the whole file (Input/output error)",)
    assert report.moved_to is not None
    assert Path(report.moved_to).read_bytes() == unclean.main


def test_the_rebuilt_state_can_be_used(unclean: StateFiles) -> None:
    rebuild(unclean.path, NEW)

    async def go() -> None:
        db, _ = StateDb.open(unclean.path)
        await db.commit_intent([77], [5])
        await db.close()

    asyncio.run(go())
    assert load(unclean.path).stored.armed_zones == {9, 77}


def test_a_newer_state_is_left_alone_but_a_wrong_number_is_not_in_the_way(
    tmp_path: Path, samples: tuple[StateFiles, StateFiles]
) -> None:
    path = tmp_path / "v.db"
    clean = samples[1]
    wrong = replace(clean, main=clean.main[:63] + b"\x03" + clean.main[64:])
    newer = replace(wrong, main=wrong.main.replace(b"armed_zone", b"armed_area"))
    put_files(path, newer)
    with pytest.raises(StateNewerError):
        rebuild(path, NEW)
    assert path.read_bytes() == newer.main
    put_files(path, wrong)
    with pytest.raises(StateNewerError):
        StateDb.open(path)
    assert not rebuild(path, NEW).unreadable_parts
    assert load(path).stored.armed_zones == {5, 9}


@pytest.mark.parametrize("version", [1, 2])
def test_samples_of_every_version_are_rebuilt(tmp_path: Path, version: int) -> None:
    path = copied(version, tmp_path)
    facts = {**NEW, "size": 1 << 30}
    report = rebuild(path, facts, now=NOW)
    assert not report.unreadable_parts
    armed = range(5120, 5123)
    assert {41, 42, CHUNK_REGIONS + 1, *armed} == set(load(path).stored.sets.outdated)


def test_a_damaged_state_of_version_1_is_saved_from_as_far_as_it_goes(tmp_path: Path) -> None:
    path = copied(1, tmp_path)
    beside(path, WAL).write_bytes(flipped(beside(path, WAL).read_bytes(), 8 * 300))
    report = rebuild(path, {**NEW, "size": 1 << 30}, now=NOW)
    assert "rows without checksums" in report.unreadable_parts
    stored = load(path).stored
    assert {41, 42, CHUNK_REGIONS + 1} <= set(stored.sets.outdated)
    assert stored.armed_zones == {5, 9}


def test_regions_and_zones_of_another_size_are_taken_over(unclean: StateFiles) -> None:
    facts = {**NEW, "region_size": 4 * REGION, "zone_size": ZONE // 2, "size": 50 * ZONE}
    rebuild(unclean.path, facts)
    stored = load(unclean.path).stored
    assert stored.armed_zones == {10, 11, 18, 19}
    assert {10, 24} <= set(stored.sets.outdated)
    assert max(stored.sets.in_doubt) == 10 * PER_ZONE // 4 - 1
    rebuild(unclean.path, {**NEW, "size": 6 * ZONE})
    assert load(unclean.path).stored.armed_zones == {5}


# --- what is saved of a damaged state -------------------------------------------------------


def test_a_broken_first_page_loses_nothing(samples: tuple[StateFiles, StateFiles]) -> None:
    for files in samples:
        for length in (16, 100, 512, PAGE):
            saved = salvage(replace(files, main=zeroed(files.main, 0, length)))
            assert saved.unreadable == ()
            assert saved.stored == changed_state()


def test_of_a_damaged_log_whole_frames_are_used(samples: tuple[StateFiles, StateFiles]) -> None:
    files = samples[0]
    whole = 0
    for bit in random.Random(1).sample(range(8 * 32, 8 * len(files.wal)), 300):
        saved = salvage(replace(files, wal=flipped(files.wal, bit)))
        assert saved.unreadable or saved.stored == changed_state(), bit
        whole += not saved.unreadable
    assert whole > 200


def test_a_damaged_frame_whose_page_was_written_again_costs_nothing(
    samples: tuple[StateFiles, StateFiles],
) -> None:
    files = samples[0]
    log = parse_log(files.wal)
    assert log is not None
    last = {frame.page: index for index, frame in enumerate(log.frames)}
    again = [index for index, frame in enumerate(log.frames) if last[frame.page] > index]
    assert len(again) > 5
    for index in again:
        for bit in range(8 * log.end_of(index), 8 * log.end_of(index) + 32):  # the page's number
            saved = salvage(replace(files, wal=flipped(files.wal, bit)))
            assert saved == Salvage(changed_state(), ()), bit


def test_a_log_that_cannot_be_read_is_counted_as_such(
    samples: tuple[StateFiles, StateFiles],
) -> None:
    broken = replace(samples[0], wal=flipped(samples[0].wal, 8 * 20))
    assert salvage(broken).unreadable == ("commits 2 to 7", "the write-ahead log")
    assert salvage(replace(broken, mark=None)).unreadable == ("the write-ahead log",)
    assert salvage(replace(samples[1], wal=broken.wal)).unreadable == ()


def test_whatever_is_damaged_what_is_saved_is_true(
    samples: tuple[StateFiles, StateFiles],
) -> None:
    clean, chance = samples[1], random.Random(2)
    true = changed_state()
    damages: list[Callable[[], bytes]] = [
        lambda: flipped(clean.main, chance.randrange(8 * len(clean.main))),
        lambda: zeroed(clean.main, chance.randrange(len(clean.main)), chance.choice([1, 64, 512])),
        lambda: clean.main[: chance.randrange(len(clean.main))],
        lambda: zeroed(clean.main, chance.randrange(6) * PAGE, PAGE),
    ]
    for _ in range(250):
        for damage in damages:
            saved = salvage(replace(clean, main=damage()))
            assert saved.unreadable or saved.stored == true
            assert saved.stored.facts.items() <= true.facts.items()
            assert saved.stored.armed_zones <= true.armed_zones
            for kind in KINDS:
                assert getattr(saved.stored.sets, kind).issubset(getattr(true.sets, kind))


def test_one_damaged_row_costs_that_row_alone(samples: tuple[StateFiles, StateFiles]) -> None:
    clean = samples[1]
    start = clean.main.index(b"in_doubt", PAGE) + len(b"in_doubt")
    saved = salvage(replace(clean, main=zeroed(clean.main, start, 1)))
    assert saved.unreadable[0] == "the checksum of the 'in_doubt' regions of chunk 0 is wrong"
    expected = replace(changed_state().sets, in_doubt=BitMap64())
    assert saved.stored == replace(changed_state(), sets=expected)


def test_a_broken_page_in_the_middle_of_a_table_costs_that_page_alone(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    StateDb.create(path, FACTS)

    async def go() -> None:
        db, _ = StateDb.open(path)
        await db.commit_intent(range(1000), [])
        await db.close()

    asyncio.run(go())
    files = read_files(path)
    pages = range(PAGE, len(files.main), PAGE)
    leaf = next(start for start in pages if row_of_zone(500) in files.main[start : start + PAGE])
    report = salvage(replace(files, main=zeroed(files.main, leaf, PAGE)))
    assert 800 < len(report.stored.armed_zones) < 1000
    assert report.stored.facts == FACTS
    assert len(report.unreadable) == 2


def row_of_zone(zone: int) -> bytes:
    return checksum_of("armed_zone", zone).to_bytes(8, "big", signed=True)


# --- crashes ----------------------------------------------------------------------------------


class Crash(BaseException):
    """The machine stops here."""


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException
) -> Iterator[list[str]]:
    """Raise *error* instead of the *number*-th change of a file; yield the changes so far."""
    changes: list[str] = []

    def wrapped(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            changes.append(name)
            if len(changes) == number:
                raise error
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("link", "replace", "unlink", "fsync"):
            patch.setattr(os, name, wrapped(name))
        yield changes


def is_recoverable(old: StateFiles) -> bool:
    """Whether all of the old state is at its place or aside, or the new one is complete."""
    path = old.path
    found = read_files(path)
    if found.main.startswith(NOTE):
        aside = path.with_name(found.main[len(NOTE) :].decode().strip())
        with pytest.raises(StateCorruptError, match="is to be run again"):
            StateDb.open(path)
        return replace(read_files(aside), path=path) == old
    if found.main == old.main:
        return found == old
    return load(path).stored.facts == NEW and not found.wal


@pytest.mark.parametrize("damage", [0, 8 * 300])
def test_a_crash_at_any_step_leaves_the_old_state_or_the_new_one(
    unclean: StateFiles, monkeypatch: pytest.MonkeyPatch, damage: int
) -> None:
    old = replace(unclean, wal=flipped(unclean.wal, damage)) if damage else unclean
    for number in count(1):
        for file in old.path.parent.iterdir():
            file.unlink()
        put_files(old.path, old)
        crash = Crash()
        with failing(monkeypatch, number, crash) as changes:
            try:
                first = rebuild(old.path, NEW, now=NOW)
            except Crash:
                first = None
        assert is_recoverable(old), number
        report = rebuild(old.path, NEW, now=datetime(2027, 1, 1, tzinfo=UTC))
        stored = load(old.path).stored
        assert {41, 42, 99, CHUNK_REGIONS + 7} <= set(stored.sets.outdated)
        assert stored.facts == NEW
        assert stored.armed_zones == {5, 9}
        assert report.zones_in_doubt == 2
        assert report.moved_to is not None
        asides = (Path(report.moved_to), old.path.with_name("v.db.damaged-20261122T185207Z"))
        assert asides[0].exists()
        assert any(replace(read_files(aside), path=old.path) == old for aside in asides)
        if first is not None:
            break
    assert len(changes) == number - 1
    assert changes == [
        *["unlink", "fsync"],  # the new state is durable
        *["link"] * 4,
        "fsync",  # the old one's second name is durable
        *["unlink", "fsync", "replace", "fsync"],  # the note is in its place
        *["unlink"] * 3,
        "fsync",  # there is no log any more that SQLite would take for the new one's
        *["replace", "fsync"],
    ]


def test_an_error_at_any_step_is_reported_and_trying_again_helps(
    unclean: StateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in count(1):
        for file in unclean.path.parent.iterdir():
            file.unlink()
        put_files(unclean.path, unclean)
        full = OSError(28, "No space left on device")
        with failing(monkeypatch, number, full) as changes:
            try:
                rebuild(unclean.path, NEW, now=NOW)
            except StateWriteError as error:
                assert "No space" in str(error)  # noqa: PT017 - the loop ends without one
        assert is_recoverable(unclean), number
        if len(changes) < number:
            break
        rebuild(unclean.path, NEW, now=NOW)
        assert load(unclean.path).stored.armed_zones == {5, 9}
        assert not unclean.path.with_name("v.db.new").exists()
