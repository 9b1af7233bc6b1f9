"""An export stores what is not zero, goes on after any interruption, and deletes nothing."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.core.buffer import buffers_of
from tcmu_restore.errors import ExportRefusedError, SourceReadError, SourceWriteError
from tcmu_restore.sources.file import FileStore
from tcmu_restore.sources.image_manifest import ImageHeader
from tcmu_restore.sources.snapshot_image import SnapshotImage
from tcmu_restore.transfer import image_writer
from tcmu_restore.transfer.export import ExportProgress
from tcmu_restore.transfer.image_writer import ImageWriter
from tcmu_restore.units import MiB
from tests.transfer.images import EXTENT, content, export_file, flip, header

CONTENT = content()
DATA_EXTENTS = 11
"""Of 16; every third is zeros."""


class InterruptedHereError(Exception):
    """Stands for a power cut between two extents."""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(CONTENT)
    return path


def read_back(directory: Path) -> bytes:
    async def go() -> bytes:
        source = SnapshotImage.open(str(directory))
        data = bytearray(source.geometry.size)
        await source.read_into(0, buffers_of(data))
        await source.close()
        return bytes(data)

    return asyncio.run(go())


@pytest.fixture(params=[1, 3 * EXTENT, 64 * MiB], ids=["each", "some", "none"])
def recorded_often(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_writer, "SYNC_BYTES", request.param)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_zeros_are_left_out(disk: Path, tmp_path: Path, compression: str) -> None:
    told: list[ExportProgress] = []
    manifest = export_file(disk, tmp_path / "i", told.append, compression=compression)
    assert manifest.index_records == DATA_EXTENTS
    assert read_back(tmp_path / "i") == CONTENT
    stored = (tmp_path / "i" / "data-000000").stat().st_size
    assert told[-1] == ExportProgress(MiB, MiB, stored)
    assert stored == DATA_EXTENTS * EXTENT if compression == "none" else stored < 7 * EXTENT
    assert sorted(os.listdir(tmp_path / "i")) == ["data-000000", "extents.idx", "manifest.json"]


def test_holes_are_not_even_read(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(64 * MiB)
        file.seek(40 * MiB)
        file.write(b"x" * EXTENT)
    told: list[ExportProgress] = []
    assert export_file(sparse, tmp_path / "i", told.append).index_records == 1
    assert told[-1].total == EXTENT
    assert read_back(tmp_path / "i") == sparse.read_bytes()


def test_snapshot_of_zeros_only_is_an_image_without_data(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(MiB))
    assert export_file(tmp_path / "zeros", tmp_path / "i").index_records == 0
    assert read_back(tmp_path / "i") == bytes(MiB)


def test_data_is_split_into_parts(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_writer, "PART_SIZE", 3 * EXTENT)
    export_file(disk, tmp_path / "i")
    sizes = [path.stat().st_size for path in sorted((tmp_path / "i").glob("data-*"))]
    assert sizes == [3 * EXTENT] * 3 + [2 * EXTENT]
    assert read_back(tmp_path / "i") == CONTENT


@pytest.mark.usefixtures("recorded_often")
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_interrupted_at_each_extent_it_goes_on(
    disk: Path, tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_writer, "PART_SIZE", 5 * EXTENT)
    whole = tmp_path / "whole"
    export_file(disk, whole, compression=compression)
    for stop in range(17):
        directory = tmp_path / f"i{stop}"
        left = stop

        def report(progress: ExportProgress) -> None:
            nonlocal left
            if left == 0:
                raise InterruptedHereError
            left -= 1

        with pytest.raises(InterruptedHereError):
            export_file(disk, directory, report, compression=compression)
        assert not (directory / "manifest.json").exists()
        export_file(disk, directory, compression=compression)
        for path in whole.iterdir():
            assert (directory / path.name).read_bytes() == path.read_bytes(), (stop, path.name)


def test_interrupted_again_and_again_it_gets_done(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_writer, "SYNC_BYTES", 1)
    copied: list[int] = []

    def report(progress: ExportProgress) -> None:
        if progress.done > (copied[-1] if copied else 0):
            copied.append(progress.done)
            raise InterruptedHereError

    for _ in range(40):
        try:
            export_file(disk, tmp_path / "i", report)
        except InterruptedHereError:
            continue
        break
    assert read_back(tmp_path / "i") == CONTENT


@pytest.mark.parametrize("damage", ["journal-tail", "journal", "data", "data-tail", "no-data"])
def test_what_an_unfinished_export_does_not_hold_after_all_is_stored_again(
    disk: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_writer, "SYNC_BYTES", 1)
    directory = tmp_path / "i"

    def report(progress: ExportProgress) -> None:
        if progress.done >= 12 * EXTENT:
            raise InterruptedHereError

    with pytest.raises(InterruptedHereError):
        export_file(disk, directory, report)
    index, data = directory / "extents.idx", directory / "data-000000"
    if damage == "journal-tail":
        os.truncate(index, index.stat().st_size - 3)
    elif damage == "journal":
        flip(index, 3 * 56 + 40)
    elif damage == "data":
        flip(data, 5 * EXTENT + 1)
    elif damage == "data-tail":
        os.truncate(data, 2 * EXTENT + 5)
    else:
        data.unlink()
    export_file(disk, directory)
    assert read_back(directory) == CONTENT


def refused(directory: Path, match: str, disk: Path, **change: str) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(ExportRefusedError, match=match) as caught:
        export_file(disk, directory, **change)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_directory_with_something_else_is_refused_and_left_alone(
    disk: Path, tmp_path: Path
) -> None:
    finished = tmp_path / "finished"
    export_file(disk, finished)
    refused(finished, "finished snapshot of this volume", disk)
    refused(finished, "another volume", disk, backup="naa.other")
    (finished / "manifest.json").write_text("mine")
    refused(finished, "not ours", disk)
    (finished / "manifest.json").unlink()
    refused(finished, "parts of some other export", disk)


def test_unfinished_export_of_something_else_is_refused_and_left_alone(
    disk: Path, tmp_path: Path
) -> None:
    def report(progress: ExportProgress) -> None:
        raise InterruptedHereError

    directory = tmp_path / "i"
    with pytest.raises(InterruptedHereError):
        export_file(disk, directory, report)
    refused(directory, "another volume", disk, backup="naa.other")
    refused(directory, "compression none", disk, compression="zstd")
    other = tmp_path / "other"
    other.write_bytes(CONTENT)
    refused(directory, "another snapshot", other)
    flip(directory / "unfinished.json", 60)
    refused(directory, "cannot be used", disk)


def test_two_exports_to_one_directory_do_not_meet(disk: Path, tmp_path: Path) -> None:
    told: list[ExportProgress] = []

    def report(progress: ExportProgress) -> None:
        told.append(progress)
        with pytest.raises(ExportRefusedError, match="under way"):
            ImageWriter.open(tmp_path / "i", taken)

    async def same_header() -> ImageHeader:
        source = FileStore.open(disk, read_only=True)
        found = header(source)
        await source.close()
        return found

    taken = asyncio.run(same_header())
    export_file(disk, tmp_path / "i", report)
    assert told
    assert read_back(tmp_path / "i") == CONTENT


def test_links_on_the_disk_are_not_written_through(disk: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("unfinished.json.tmp", "unfinished.json", "extents.idx", "data-000000"):
        directory = tmp_path / name.replace(".", "-")
        directory.mkdir()
        (directory / name).symlink_to(precious)
        with pytest.raises(ExportRefusedError):
            export_file(disk, directory)
        assert precious.read_text() == "precious"


def test_too_little_room_is_said_before_anything_is_copied(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageWriter, "free_bytes", property(lambda self: MiB - 1))
    with pytest.raises(ExportRefusedError, match=r"up to 1 MiB .* --no-space-check"):
        export_file(disk, tmp_path / "i")
    assert (tmp_path / "i" / "data-000000").stat().st_size == 0


@pytest.mark.parametrize("call", ["fsync", "pwrite"])
def test_disk_that_fails_ends_the_export_and_a_later_one_goes_on(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(os, call)
    messages: set[bool] = set()
    for count in range(1, 40):
        directory = tmp_path / f"i{count}"
        left = count

        def failing(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.ENOSPC, "simulated")
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(image_writer, "SYNC_BYTES", 4 * EXTENT)
            patch.setattr(os, call, failing)
            try:
                export_file(disk, directory)
            except (SourceWriteError, ExportRefusedError) as error:
                messages.add("ENOSPC" in str(error))
            else:
                break
        if not (directory / "manifest.json").exists():  # only its name may not be durable yet
            export_file(disk, directory)
        assert read_back(directory) == CONTENT
    assert count > 5
    assert messages == {True}


def test_snapshot_that_cannot_be_read_ends_the_export(disk: Path, tmp_path: Path) -> None:
    def report(progress: ExportProgress) -> None:
        os.truncate(disk, 3 * EXTENT)

    with pytest.raises(SourceReadError):
        export_file(disk, tmp_path / "i", report)
    assert not (tmp_path / "i" / "manifest.json").exists()
