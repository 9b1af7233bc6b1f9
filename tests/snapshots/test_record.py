from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.errors import BadSettingError
from tcmu_restore.snapshots.errors import SnapshotRecordError
from tcmu_restore.snapshots.record import Record, RecordFolder, check_name

RECORD = Record(
    snapshot="s1",
    origin="block/b",
    provider="lvm",
    device="/dev/vg/restore-s1",
    size=1 << 40,
    block_size=512,
    area=None,
    target="iqn.2026-11.org.example:b:snapshot-s1",
    portals=("192.0.2.1:3260", "[fd00::1]:3260"),
    serial="new-snapshot-of-old",
    extents=((0, 4096), (1 << 30, 512)),
    created="2026-11-23T12:00:00+00:00",
    is_taken=True,
)


@pytest.fixture
def folder(tmp_path: Path) -> RecordFolder:
    records = RecordFolder(tmp_path / "state" / "snapshots")
    with records.lock():
        return records


def test_record_is_read_as_it_was_written_by_root_only(
    folder: RecordFolder, tmp_path: Path
) -> None:
    folder.save(RECORD)
    other = replace(RECORD, snapshot="a", extents=None, area=4096)
    folder.save(other)
    assert folder.load("s1") == RECORD
    assert folder.load_all() == [other, RECORD]
    path = tmp_path / "state/snapshots"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.iterdir()} == {0o600}
    folder.remove("s1")
    folder.remove("s1")
    assert folder.load_all() == [other]


def test_unfinished_write_leaves_the_old_record(
    folder: RecordFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    folder.save(RECORD)
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(SnapshotRecordError, match="No space left"):
        folder.save(replace(RECORD, size=5))
    assert folder.load("s1") == RECORD
    assert tmp_path.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "x" * 65, "é", "a\n"])
def test_name_that_could_mean_something_else_is_refused(folder: RecordFolder, name: str) -> None:
    with pytest.raises(BadSettingError):
        check_name(name)
    with pytest.raises(BadSettingError):
        folder.load(name)


DAMAGE: dict[str, Any] = {
    "version": 2,
    "snapshot": "other",
    "size": "1",
    "is_taken": 1,
    "portals": [],
    "extents": [[1]],
    "device": "restore",
    "origin": None,
    "area": True,
}


@pytest.mark.parametrize("key", DAMAGE)
def test_record_that_says_something_else_is_refused(
    folder: RecordFolder, tmp_path: Path, key: str
) -> None:
    folder.save(RECORD)
    path = tmp_path / "state/snapshots/s1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: DAMAGE[key]}))
    with pytest.raises(SnapshotRecordError, match="left as it is"):
        folder.load("s1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
KEYS = st.sampled_from(sorted(json.loads(json.dumps({"version": 1})) | vars(Record).keys()))


@given(st.binary() | st.dictionaries(KEYS, JSON).map(lambda each: json.dumps(each).encode()))
def test_hostile_record_is_a_record_or_refused(content: bytes) -> None:
    import tempfile  # noqa: PLC0415 - a folder for each example

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "s1.json").write_bytes(content)
        with pytest.raises(SnapshotRecordError):
            RecordFolder(Path(name)).load("s1")
