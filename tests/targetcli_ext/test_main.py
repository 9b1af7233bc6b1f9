"""``targetcli-restore`` finds the installed targetcli's main, new or old."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from targetcli_ext import main, patch, saving


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A targetcli of which only the module that is patched is there; patching it is noted."""
    ran: list[str] = []
    ui = ModuleType("targetcli.ui_backstore")
    monkeypatch.setitem(sys.modules, "targetcli", ModuleType("targetcli"))
    monkeypatch.setitem(sys.modules, "targetcli.ui_backstore", ui)
    root = ModuleType("targetcli.ui_root")
    monkeypatch.setitem(sys.modules, "targetcli.ui_root", root)
    for part in (patch, saving):
        monkeypatch.setattr(part, "install", lambda module, _: ran.append(module.__name__))
    return ran


def test_new_targetcli_is_run_by_its_module(
    monkeypatch: pytest.MonkeyPatch, ran: list[str]
) -> None:
    shell = ModuleType("targetcli.targetcli_shell")
    vars(shell)["main"] = lambda: ran.append("main")
    monkeypatch.setitem(sys.modules, shell.__name__, shell)
    main.main()
    assert ran == ["targetcli.ui_backstore", "targetcli.ui_root", "main"]


def test_old_targetcli_is_run_by_its_script_with_the_arguments(
    monkeypatch: pytest.MonkeyPatch, ran: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = tmp_path / "targetcli"
    script.write_text(
        "#!/usr/bin/python3\nimport pathlib, sys\n"
        "if __name__ == '__main__':\n"
        f"    pathlib.Path({str(out)!r}).write_text(' '.join(sys.argv[1:]))\n"
    )
    script.chmod(0o755)
    monkeypatch.setitem(sys.modules, "targetcli.targetcli_shell", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["targetcli-restore", "ls", "/backstores"])
    main.main()
    assert out.read_text() == "ls /backstores"
    assert ran == ["targetcli.ui_backstore", "targetcli.ui_root"]


def test_old_targetcli_without_its_script_says_so(
    monkeypatch: pytest.MonkeyPatch, ran: list[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "targetcli.targetcli_shell", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="no script targetcli on the PATH"):
        main.main()


def test_without_targetcli_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "targetcli.ui_backstore", None)
    with pytest.raises(SystemExit, match="Install the distribution's package targetcli-fb"):
        main.main()
