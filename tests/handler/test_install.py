"""Installing into a tree of our own."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tcmu_restore.handler import build_handler, install
from tcmu_restore.handler.build_handler import HandlerInstallError
from tcmu_restore.handler.install import Places, install_handler, uninstall_handler


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "plugins").mkdir()
    return Places(
        handlers=tmp_path / "plugins",
        dbus=tmp_path / "dbus",
        systemd=tmp_path / "systemd",
        definitions=tmp_path / "etc" / "volumes",
        state=tmp_path / "state",
        manual=tmp_path / "man",
    )


def fake_build(folder: Path) -> Path:
    plugin = folder / "handler_restore.so"
    plugin.write_bytes(b"plugin")
    return plugin


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


INSTALLED = {
    "plugins/handler_restore.so",
    "dbus/tcmu-restore.conf",
    "systemd/rtslib-fb-targetctl.service.d/tcmu-restore.conf",
    "systemd/tcmu-runner.service.d/tcmu-restore.conf",
    "man/man5/tcmu-restore.toml.5",
    "man/man8/targetcli-restore.8",
    "man/man8/tcmu-restore.8",
}


def test_install_writes_everything_and_says_so(places: Places, tmp_path: Path) -> None:
    done = install_handler(places, build=fake_build)
    assert tree(tmp_path) == INSTALLED
    assert f"Wrote {places.plugin}." in done
    assert "systemctl restart tcmu-runner" in done[-1]
    for folder in (places.definitions, places.state):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_install_twice_replaces_and_leaves_nothing_behind(places: Places, tmp_path: Path) -> None:
    install_handler(places, build=fake_build)
    places.plugin.write_bytes(b"old")
    install_handler(places, build=fake_build)
    assert places.plugin.read_bytes() == b"plugin"
    assert tree(tmp_path) == INSTALLED


def test_install_makes_open_folders_private(places: Places) -> None:
    places.state.mkdir(mode=0o755)
    places.state.chmod(0o755)
    assert f"Made {places.state} private." in install_handler(places, build=fake_build)
    assert stat.S_IMODE(places.state.stat().st_mode) == 0o700


def test_uninstall_leaves_definitions_and_state(places: Places, tmp_path: Path) -> None:
    install_handler(places, build=fake_build)
    (places.definitions / "vol0.toml").touch()
    (places.state / "vol0.db").touch()
    other = places.systemd / "tcmu-runner.service.d" / "admin.conf"
    other.touch()
    done = uninstall_handler(places)
    assert len(done) == len(INSTALLED) + 1
    assert tree(tmp_path) == {
        "etc/volumes/vol0.toml",
        "state/vol0.db",
        "systemd/tcmu-runner.service.d/admin.conf",
    }
    assert not (places.systemd / "rtslib-fb-targetctl.service.d").exists()
    assert uninstall_handler(places) == []


def test_failing_build_changes_nothing(places: Places, tmp_path: Path) -> None:
    def build(folder: Path) -> Path:
        raise HandlerInstallError("there is no C compiler")

    with pytest.raises(HandlerInstallError, match="no C compiler"):
        install_handler(places, build=build)
    assert tree(tmp_path) == set()
    assert not places.state.exists()


def test_unwritable_folder_is_named(places: Places) -> None:
    places.dbus.write_text("a file, not a folder")
    with pytest.raises(HandlerInstallError, match="dbus"):
        install_handler(places, build=fake_build)


def test_missing_daemon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)
    with pytest.raises(HandlerInstallError, match="apt install tcmu-runner"):
        install.find_handler_folder()


def test_daemon_is_asked_for_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "tcmu-runner"
    program.write_text(
        "#!/bin/sh\n"
        "printf '\\t--handler-path: set path to search for handler modules\\n'\n"
        f"printf '\\t\\tdefault is {tmp_path}\\n'\n"
        "printf '\\t-l, --tcmu-log-dir: tcmu log dir\\n\\t\\tdefault is /var/log\\n'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert install.find_handler_folder() == tmp_path


def test_named_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(HandlerInstallError, match="is not a folder"):
        install.find_places(tmp_path / "nowhere")


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)
    with pytest.raises(HandlerInstallError, match="gcc"):
        build_handler.find_toolchain()


def test_missing_headers_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = {"include": str(tmp_path), "platinclude": str(tmp_path)}
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: "/usr/bin/cc")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: paths)
    with pytest.raises(HandlerInstallError, match="python3-dev"):
        build_handler.find_toolchain()


def test_failing_compiler_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_args: object, **_options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "x.c:1: error: no\n")

    monkeypatch.setattr(build_handler, "find_toolchain", _toolchain)
    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(HandlerInstallError, match=r"x\.c:1: error: no"):
        build_handler.build_handler(tmp_path)


def _toolchain() -> build_handler.Toolchain:
    return build_handler.Toolchain(("cc",), (), "libpython3.so", Path("/usr/lib"), True)


@pytest.mark.parametrize("exists", [True, False])
def test_group_may_call_the_service_only_where_there_is_one(
    places: Places, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    monkeypatch.setattr(install, "_has_group", lambda: exists)
    install_handler(places, build=fake_build)
    policy = places.dbus / install.GROUP_POLICY_NAME
    assert policy.exists() is exists
    monkeypatch.setattr(install, "_has_group", lambda: False)
    uninstall_handler(places)
    assert not policy.exists()
