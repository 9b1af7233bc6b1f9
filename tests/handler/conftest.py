"""The plugin and the fake daemon, compiled once a session with warnings as errors."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tcmu_restore.handler.build_handler import HERE as HANDLER_FOLDER
from tcmu_restore.handler.build_handler import build_handler

HERE = Path(__file__).parent

RunPlugin = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def compiler() -> str:
    found = shutil.which("gcc") or shutil.which("cc")
    if found is None:
        pytest.skip("needs a C compiler")
    return found


@pytest.fixture(scope="session")
def plugin(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    return build_handler(folder, entry_module="fake_entry", extra_paths=[HERE], strict=True)


@pytest.fixture(scope="session")
def fake_runner(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("runner") / "fake_runner"
    flags = ["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-rdynamic", "-pthread"]
    subprocess.run(
        [compiler, *flags, f"-I{HANDLER_FOLDER}", HERE / "fake_runner.c", "-o", program, "-ldl"],
        check=True,
    )
    return program


@pytest.fixture(scope="session")
def run_plugin(plugin: Path, fake_runner: Path) -> RunPlugin:
    def run(
        scenario: str, count: int = 0, *, so: Path = plugin, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [fake_runner, so, scenario, str(count)],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
            # what a service's environment may hold must not matter
            env={"PATH": os.environ["PATH"], "PYTHONHOME": "/nowhere", **environment},
        )

    return run
