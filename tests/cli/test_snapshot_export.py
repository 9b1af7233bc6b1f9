"""``snapshot-export``: what a person types on the backup host. No service runs there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tcmu_restore.cli.context import CliContext
from tcmu_restore.cli.main import cli
from tcmu_restore.sources.image_manifest import parse_manifest
from tcmu_restore.transfer import image_writer, run
from tcmu_restore.units import MiB
from tests.support import tgt

IDENTITY = "naa.1/serial.2"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * MiB + bytes(2 * MiB) + b"y" * MiB)
    (tmp_path / "image").mkdir()
    return path


def export(disk: Path | str, *options: str, terminal: bool = False) -> tuple[Result, str]:
    shown = io.StringIO()
    context = CliContext(
        make_console=lambda: Console(file=shown, width=120, force_terminal=terminal)
    )
    directory = disk.parent / "image" if isinstance(disk, Path) else Path(options[-1])
    arguments = ["snapshot-export", str(disk), str(directory), *options]
    return CliRunner().invoke(cli, arguments, obj=context, catch_exceptions=False), shown.getvalue()


def manifest_of(disk: Path) -> bytes:
    return (disk.parent / "image" / "manifest.json").read_bytes()


@pytest.mark.parametrize("options", [(), ("--compress", "zstd")])
def test_it_says_how_far_it_is_in_lines_and_what_to_do_next(
    disk: Path, options: tuple[str, ...]
) -> None:
    result, shown = export(disk, "--backup-identity", IDENTITY, *options)
    assert result.exit_code == 0
    lines = shown.splitlines()
    assert lines[0] == "0 %: 0 B of 4 MiB read, 0 B stored"
    assert lines[-1].startswith("100 %: 4 MiB of 4 MiB read, ")
    assert "Done: 2 extents with data" in result.output
    assert "attach-snapshot" in result.output
    manifest = parse_manifest(manifest_of(disk))
    assert manifest.header.backup_identity == IDENTITY
    assert manifest.header.extent_size == MiB
    assert manifest.header.compression == ("zstd" if options else "none")


def test_terminal_gets_a_bar(disk: Path) -> None:
    result, shown = export(disk, "--backup-identity", IDENTITY, terminal=True)
    assert result.exit_code == 0
    assert "4 MiB of 4 MiB read, 2 MiB stored" in shown


def test_backup_is_asked_for_its_identity(disk: Path, tmp_path: Path) -> None:
    if tgt.MISSING:
        pytest.skip(tgt.MISSING)
    live, sockets = tmp_path / "live", tmp_path / "s"
    live.write_bytes(bytes(4 * MiB))
    sockets.mkdir()
    with tgt.TgtTarget(sockets, live, identity="backup7") as target:
        result, _ = export(disk, "--backup", target.url)
        assert result.exit_code == 0
        assert "serial.backup7" in parse_manifest(manifest_of(disk)).header.backup_identity
        itself, _ = export(target.url, "--backup", target.url, str(tmp_path / "s"))
        assert itself.exit_code == 2


def test_snapshot_behind_iscsi_is_exported(disk: Path, tmp_path: Path) -> None:
    if tgt.MISSING:
        pytest.skip(tgt.MISSING)
    (tmp_path / "s").mkdir()
    with tgt.TgtTarget(tmp_path / "s", disk, identity="snap") as target:
        directory = str(tmp_path / "image")
        arguments = ["snapshot-export", target.url, directory, "--backup-identity", IDENTITY]
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "serial.snap" in parse_manifest(manifest_of(disk)).header.source_identity


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--backup-identity", IDENTITY, "--backup", "iscsi://h/i/0"),
        ("--backup-identity", "a\nb"),
        ("--backup-identity", ""),
        ("--backup", "h"),
        ("--backup-identity", IDENTITY, "--compress", "gzip"),
    ],
    ids=str,
)
def test_wrong_command_line_writes_nothing(disk: Path, options: tuple[str, ...]) -> None:
    result, _ = export(disk, *options)
    assert result.exit_code == 2
    assert not list((disk.parent / "image").iterdir())


def test_zstd_that_is_not_installed_is_said_at_once(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "can_compress", lambda: False)
    result, _ = export(disk, "--backup-identity", IDENTITY, "--compress", "zstd")
    assert result.exit_code == 2
    assert not list((disk.parent / "image").iterdir())


def test_interrupted_export_says_how_to_go_on_and_goes_on(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_writer, "SYNC_BYTES", 1)

    def interrupted(writer: image_writer.ImageWriter) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_writer.ImageWriter, "finish", interrupted)
        result, _ = export(disk, "--backup-identity", IDENTITY)
    assert result.exit_code == 130
    assert "The same command goes on" in result.output
    result, shown = export(disk, "--backup-identity", IDENTITY)
    assert result.exit_code == 0
    assert shown.splitlines()[0] == "100 %: 4 MiB of 4 MiB read, 2 MiB stored"
    other, _ = export(disk, "--backup-identity", IDENTITY)
    assert other.exit_code == 2
