"""What backs an origin, LVM's reports, and clones of real files."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.snapshots.backing import Backing, find_backing
from tcmu_restore.snapshots.choice import choose_provider
from tcmu_restore.snapshots.command import Run, run
from tcmu_restore.snapshots.errors import (
    NoProviderError,
    SnapshotCommandError,
    SnapshotSpaceError,
)
from tcmu_restore.snapshots.identity import is_snapshot_of, make_serial, origin_of_serial
from tcmu_restore.snapshots.lvm import Lvm, lv_uuid
from tcmu_restore.snapshots.reflink import FICLONE, ReflinkProvider
from tests.snapshots.fake_lvm import FakeLv, FakeLvm

GROUP, VOLUME = "a" * 32, "0Bcdef1Hij2Lmn3Pqr4Tuv5Xyz6AbcDe"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"LVM-{GROUP}{VOLUME}", "0Bcdef-1Hij-2Lmn-3Pqr-4Tuv-5Xyz-6AbcDe"),
        (f"LVM-{GROUP}{VOLUME}-cow", None),
        (f"LVM-{GROUP}", None),
        (f"CRYPT-{GROUP}{VOLUME}", None),
        (f'LVM-{GROUP}{VOLUME[:-1]}"', None),
        ("", None),
    ],
)
def test_uuid_of_a_volume_is_found_in_device_mappers(text: str, expected: str | None) -> None:
    assert lv_uuid(text) == expected


def test_report_of_lvm_is_read_and_nonsense_refused() -> None:
    fake = FakeLvm(lambda: None)
    fake.lvs["cow"] = FakeLv("cow", origin="classic", area=1, is_invalid=True, tags="a,t")
    lvm = Lvm(fake.run)
    found = lvm.by_device("/dev/vg/cow")
    assert found is not None
    assert (found.full_name, found.size, found.is_invalid) == ("vg/cow", 64 << 20, True)
    assert found.is_classic_snapshot
    assert found.tags == {"a", "t"}
    pool = lvm.by_name("vg", "pool")
    assert pool is not None
    assert (pool.data_percent, pool.is_thin, pool.is_invalid) == (10.0, False, False)
    assert lvm.by_name("vg", "nosuch") is None
    for text in ("", "{}", '{"report": [{"lv": [{}]}]}', "[]"):
        with pytest.raises(SnapshotCommandError, match="cannot be read"):
            Lvm(_saying(text)).by_name("vg", "x")


def _saying(text: str) -> Run:
    return lambda _: text


def test_backing_of_a_file_a_folder_and_nothing(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"x")
    link.symlink_to(file)
    assert find_backing("fileio/f", str(link), run) == Backing("fileio/f", str(file), False)
    with pytest.raises(NoProviderError, match="neither a device nor a file"):
        find_backing("fileio/f", str(tmp_path), run)
    with pytest.raises(NoProviderError, match="No such file"):
        find_backing("fileio/f", str(tmp_path / "nosuch"), run)


def test_device_that_is_no_volume_of_lvm_has_no_provider(tmp_path: Path) -> None:
    device = next(path for path in Path("/dev").iterdir() if path.is_block_device())
    number = device.stat().st_rdev
    folder = tmp_path / f"{os.major(number)}:{os.minor(number)}"
    backing = find_backing("block/b", str(device), run, tmp_path)
    assert backing.lv is None
    with pytest.raises(NoProviderError, match="neither a logical volume of LVM nor a file"):
        choose_provider(backing, run, name=None, size=None)
    (folder / "dm").mkdir(parents=True)
    (folder / "dm/uuid").write_text(f"LVM-{GROUP}{VOLUME}\n")
    fake = FakeLvm(lambda: None)
    fake.lvs["0Bcdef-1Hij-2Lmn-3Pqr-4Tuv-5Xyz-6AbcDe"] = FakeLv("found")
    backing = find_backing("block/b", str(device), fake.run, tmp_path)
    assert backing.lv is not None
    assert choose_provider(backing, fake.run, name=None, size=None).name == "lvm"


def test_snapshot_of_a_classic_snapshot_is_refused() -> None:
    fake = FakeLvm(lambda: None)
    fake.lvs["cow"] = FakeLv("cow", origin="classic", area=1)
    backing = Backing("block/b", "/dev/vg/cow", True, Lvm(fake.run).by_name("vg", "cow"))
    with pytest.raises(NoProviderError, match="itself a snapshot"):
        choose_provider(backing, fake.run, name=None, size=None)


def clone_by_copying(target: int, request: int, source: int) -> int:
    """Stand for FICLONE where the test's file system has none."""
    assert request == FICLONE
    os.pwrite(target, os.pread(source, 1 << 20, 0), 0)
    return 0


def test_clone_of_a_file_stays_as_it_was_and_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", clone_by_copying)
    file = tmp_path / "file"
    file.write_bytes(b"before")
    provider, backing = ReflinkProvider(run), Backing("fileio/f", str(file), False)
    device = provider.place(backing, "s1")
    provider.check(backing, device, None)
    provider.take(backing, device, None)
    file.write_bytes(b"after!")
    assert Path(device).read_bytes() == b"before"
    assert Path(device).stat().st_mode & 0o777 == 0o600
    assert provider.find_fault(device) is None
    with pytest.raises(NoProviderError, match="exists already"):
        provider.check(backing, device, None)
    provider.remove(device)
    provider.remove(device)
    assert list(tmp_path.iterdir()) == [file]
    assert provider.find_fault(device) == f"{device} is gone"


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EOPNOTSUPP, NoProviderError, "cannot share blocks"),
        (errno.ENOTTY, NoProviderError, "cannot share blocks"),
        (errno.ENOSPC, SnapshotSpaceError, "is full"),
        (errno.EDQUOT, SnapshotSpaceError, "is full"),
        (errno.EIO, SnapshotCommandError, "Input/output error"),
    ],
)
def test_clone_that_fails_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[Exception],
    words: str,
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "ioctl", fail)
    file = tmp_path / "file"
    file.write_bytes(b"before")
    provider, backing = ReflinkProvider(run), Backing("fileio/f", str(file), False)
    with pytest.raises(kind, match=words):
        provider.take(backing, provider.place(backing, "s1"), None)
    assert list(tmp_path.iterdir()) == [file]


def test_command_that_is_missing_or_fails_is_one_sentence() -> None:
    with pytest.raises(SnapshotCommandError, match="not installed"):
        run(["no-such-program-at-all"])
    script = "echo ' WARNING: not this'; echo '  first.'; echo second; echo 'Run `x -h'; exit 3"
    with pytest.raises(SnapshotCommandError, match=r"^sh failed: first; second\. What"):
        run(["sh", "-c", f"({script}) >&2"])
    with pytest.raises(SnapshotCommandError, match="status 4"):
        run(["sh", "-c", "exit 4"])
    assert run(["echo", "said"]) == "said\n"


def test_serial_number_is_new_and_names_the_origin() -> None:
    origin = "e6b8dcf9-0d5b-4a93-a1f9-3a4c1c0a4b66"
    serial = make_serial(origin)
    assert serial != make_serial(origin)
    assert len("IBLOCK:" + serial) < 255
    assert len(make_serial("x" * 300)) < 200
    assert origin_of_serial(serial) == origin
    assert origin_of_serial(origin) is None
    snapshot = f"naa.6001405aaaa/serial.{serial}"
    assert is_snapshot_of(snapshot, f"naa.6001405bbbb/serial.{origin}") is True
    assert is_snapshot_of(snapshot, "naa.6001405bbbb/serial.other") is False
    assert is_snapshot_of("naa.6001405aaaa/serial.own", f"naa.1/serial.{origin}") is None
    assert is_snapshot_of(snapshot, "naa.6001405bbbb") is None
