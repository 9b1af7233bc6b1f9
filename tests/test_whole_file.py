"""Files that are written whole, for their owner only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcmu_restore.whole_file import write_whole


def test_what_was_left_behind_with_another_mode_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    left_behind = tmp_path / "a.new"
    left_behind.write_text("something longer than the new text")
    left_behind.chmod(0o666)
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        write_whole(tmp_path / "a.json", "new")
    assert victim.read_text() == "precious"
