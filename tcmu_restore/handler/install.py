"""Put the plugin and what belongs to it in place, and take it away again.

systemd is told of the drop-ins. Nothing is started or restarted here: restarting tcmu-runner
interrupts every LUN that it serves, so the admin is told to.
"""

from __future__ import annotations

import grp
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ..options import DBUS_GROUP, DEFINITION_DIR, INSTALLED_HANDLER_NAME, STATE_DIR
from .build_handler import HERE, HandlerInstallError, build_handler

SYSTEMD: Final = Path("/etc/systemd/system")
POLICY_NAME: Final = "tcmu-restore.conf"
GROUP_POLICY_NAME: Final = "tcmu-restore-group.conf"
DROP_IN_NAME: Final = "tcmu-restore.conf"
DROP_INS: Final = {
    "rtslib-fb-targetctl.service.d": "systemd_targetctl.conf",
    "tcmu-runner.service.d": "systemd_tcmu_runner.conf",
}

MANUAL: Final = HERE.parent / "manual"

_HELP_LINE: Final = re.compile(r"--handler-path\b.*?default is (\S+)", re.DOTALL)
_HELP_TIMEOUT_SECONDS: Final = 10
_RELOAD_SECONDS: Final = 60

_SYSTEMD_RUNS: Final = Path("/run/systemd/system")
"""There if and only if systemd is the init. Source: sd_booted(3)."""

_RESTART: Final = "Now run: systemctl restart tcmu-runner"
_RELOAD_AND_RESTART: Final = "Now run: systemctl daemon-reload && systemctl restart tcmu-runner"


@dataclass(frozen=True, slots=True)
class Places:
    """Where things go. The defaults of everything but *handlers* are those of Linux."""

    handlers: Path
    """tcmu-runner's plugin folder."""
    dbus: Path = Path("/usr/share/dbus-1/system.d")
    systemd: Path = SYSTEMD
    definitions: Path = DEFINITION_DIR
    state: Path = STATE_DIR
    manual: Path = Path("/usr/local/share/man")

    @property
    def files(self) -> dict[Path, Path]:
        """What is copied: target to source."""
        copied = {self.dbus / POLICY_NAME: HERE / "dbus_policy.conf"}
        if _has_group():
            copied[self.dbus / GROUP_POLICY_NAME] = HERE / "dbus_policy_group.conf"
        for folder, source in DROP_INS.items():
            copied[self.systemd / folder / DROP_IN_NAME] = HERE / source
        for page in MANUAL.iterdir():
            copied[self.manual / f"man{page.suffix[1:]}" / page.name] = page
        return copied

    @property
    def plugin(self) -> Path:
        """The installed plugin."""
        return self.handlers / INSTALLED_HANDLER_NAME


def find_places(handlers: Path | None = None) -> Places:
    """Return this machine's places.

    Args:
        handlers: tcmu-runner's plugin folder; without it, it is looked for.

    Raises:
        HandlerInstallError: tcmu-runner is not installed, or its folder was not found.
    """
    places = Places(handlers or find_handler_folder())
    if not places.handlers.is_dir():
        raise HandlerInstallError(f"{places.handlers} is not a folder")
    if not places.dbus.is_dir():
        return replace(places, dbus=Path("/etc/dbus-1/system.d"))
    return places


def find_handler_folder() -> Path:
    """Return the folder from which tcmu-runner loads plugins: the daemon itself is asked first."""
    program = shutil.which("tcmu-runner", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if program is None:
        raise HandlerInstallError("tcmu-runner is not installed (Debian: apt install tcmu-runner)")
    found = _HELP_LINE.search(_output_of(program, "--help"))
    if found and Path(found[1]).is_dir():
        return Path(found[1])
    multiarch = sysconfig.get_config_var("MULTIARCH") or "lib"
    for parent in (f"/usr/lib/{multiarch}", "/usr/lib64", "/usr/lib", "/usr/local/lib"):
        folder = Path(parent) / "tcmu-runner"
        if any(folder.glob("handler_*.so")):
            return folder
    raise HandlerInstallError("tcmu-runner's plugin folder was not found; name it")


def _output_of(*command: str) -> str:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_HELP_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout + result.stderr


def install_handler(
    places: Places | None = None, *, build: Callable[[Path], Path] = build_handler
) -> list[str]:
    """Build and install; return what was done, a sentence each. Doing it again is harmless.

    Raises:
        HandlerInstallError: something is missing, or could not be written.
    """
    places = places or find_places()
    done: list[str] = []
    with tempfile.TemporaryDirectory(prefix="tcmu-restore-") as scratch:
        plugin = build(Path(scratch))
        try:
            for folder in (places.definitions, places.state):
                done += _make_private(folder)
            for target, source in places.files.items():
                _replace(target, source)
                done.append(f"Wrote {target}.")
            _replace(places.plugin, plugin)  # last: from here on tcmu-runner loads it
            done.append(f"Wrote {places.plugin}.")
        except OSError as error:
            raise HandlerInstallError(" ".join([str(error), *done])) from error
    done += _tell_systemd(places)
    return done


def uninstall_handler(places: Places | None = None) -> list[str]:
    """Remove what install_handler wrote; definitions and state stay. Return what was done.

    Raises:
        HandlerInstallError: something could not be removed.
    """
    places = places or find_places()
    done: list[str] = []
    try:
        for target in (places.plugin, *places.files, places.dbus / GROUP_POLICY_NAME):
            if target.exists():
                target.unlink()
                done.append(f"Removed {target}.")
        for folder in DROP_INS:
            _remove_if_empty(places.systemd / folder)
    except OSError as error:
        raise HandlerInstallError(" ".join([str(error), *done])) from error
    return done + _tell_systemd(places) if done else done


def _tell_systemd(places: Places) -> list[str]:
    """Let systemd read the drop-ins; return what was done and what is left to do."""
    if places.systemd != SYSTEMD or not _SYSTEMD_RUNS.is_dir():
        return [_RELOAD_AND_RESTART]
    try:
        command = ("systemctl", "daemon-reload")
        subprocess.run(command, capture_output=True, timeout=_RELOAD_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return [_RELOAD_AND_RESTART]
    return ["Told systemd to read its units again.", _RESTART]


def _has_group() -> bool:
    try:
        grp.getgrnam(DBUS_GROUP)
    except KeyError:
        return False
    return True


def _make_private(folder: Path) -> list[str]:
    """Make *folder* if it is missing, and readable by its owner only."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # whatever the umask
        return [f"Made {folder}."]
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
        return [f"Made {folder} private."]
    return []


def _replace(target: Path, source: Path) -> None:
    """Copy *source* to *target* in one step: a daemon sees the old file or the new one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # tcmu-runner loads what begins with handler_, so the new one has another name until the end
    descriptor, name = tempfile.mkstemp(prefix=".tcmu-restore-", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(source.read_bytes())
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
