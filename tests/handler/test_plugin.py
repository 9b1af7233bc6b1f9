"""The plugin in a daemon without a kernel; see fake_runner.c for what each scenario does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tcmu_restore.handler.build_handler import HERE as HANDLER_FOLDER
from tcmu_restore.handler.build_handler import build_handler

RunPlugin = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("scenario", "count"),
    [
        ("stress", 3000),
        ("cancel", 30),
        ("answers", 0),
        ("twice", 0),
        ("stale", 0),
        ("closing", 0),
        ("hung", 0),
        ("configuration", 0),
        ("filters", 0),
        ("singles", 0),
        ("full", 0),
        ("fua", 0),
        ("pieces", 0),
    ],
)
def test_plugin_in_a_fake_daemon_passes(run_plugin: RunPlugin, scenario: str, count: int) -> None:
    result = run_plugin(scenario, count)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("PASS\n")
    assert "FAIL" not in result.stdout


def test_second_completion_is_reported(run_plugin: RunPlugin) -> None:
    assert "were completed a second time" in run_plugin("twice").stdout


def test_lost_commands_are_reported_at_close(run_plugin: RunPlugin) -> None:
    assert "5 commands will never be completed" in run_plugin("hung").stdout


def test_engine_error_is_logged_with_its_place(run_plugin: RunPlugin) -> None:
    output = run_plugin("answers").stdout
    assert "volume=raise-submit operation=read offset=4096 length=4096 it was not taken" in output
    assert "ValueError: a mistake" in output


def test_failing_start_makes_handler_init_fail(run_plugin: RunPlugin) -> None:
    result = run_plugin("init", FAKE_START_FAILS="1")
    assert result.returncode == 0
    assert "handler_init gave -5" in result.stdout
    assert "The tcmu-restore service does not answer (no bus)" in result.stdout


def test_missing_package_makes_handler_init_fail(run_plugin: RunPlugin, tmp_path: Path) -> None:
    broken = build_handler(tmp_path, entry_module="no_such_module")
    result = run_plugin("init", so=broken)
    assert result.returncode == 0
    assert "handler_init gave -1" in result.stdout
    assert "no_such_module" in result.stderr


def test_extension_modules_can_be_imported_in_the_daemon(
    run_plugin: RunPlugin, tmp_path: Path
) -> None:
    """libpython is made global, though the daemon opens plugins with RTLD_LOCAL."""
    (tmp_path / "imports_extensions.py").write_text(
        "import ctypes, sqlite3, ssl, pyroaring\nimport fake_entry\n"
    )
    here = Path(__file__).parent
    so = build_handler(
        tmp_path, entry_module="imports_extensions", extra_paths=[tmp_path, here], strict=True
    )
    result = run_plugin("singles", so=so)
    assert result.returncode == 0, result.stdout + result.stderr


def test_glue_has_no_data_race(compiler: str, tmp_path: Path) -> None:
    program = tmp_path / "glue_race"
    folder = Path(__file__).parent
    sources = [folder / "glue_race.c"]
    sources += [HANDLER_FOLDER / name for name in ("handler_glue.c", "command_queue.c")]
    flags = ["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=thread", "-pthread"]
    built = subprocess.run(
        [compiler, *flags, f"-I{HANDLER_FOLDER}", *sources, "-o", program],
        capture_output=True,
        text=True,
        check=False,
    )
    if "tsan" in built.stderr:
        pytest.skip("the compiler has no thread sanitizer")
    assert built.returncode == 0, built.stderr
    result = subprocess.run([program], capture_output=True, text=True, timeout=100, check=False)
    if "unexpected memory mapping" in result.stderr:
        pytest.skip("the kernel's address layout is not what the thread sanitizer expects")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("PASS"), result.stdout + result.stderr
