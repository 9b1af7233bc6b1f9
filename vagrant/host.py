"""What the lab needs of its host: commands, packages, the cache folder, child processes.

The only module of the lab that runs programs on the host.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from vagrant.errors import HostCommandError, HostUnfitError

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

# Linux sends the parent-death signal when the *thread* that forked ends, not the process. One
# thread that lives as long as the interpreter therefore forks every child.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-spawner")


def run(
    *argv: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
) -> str:
    """Run a command to its end and return its output (standard output and error together).

    Raises:
        HostCommandError: its status was not 0, or it was killed because its time was up.
    """
    words = [str(word) for word in argv]
    full_env = {**os.environ, **env} if env else None
    child = spawn(words, cwd=cwd, env=full_env, output=subprocess.PIPE)
    try:
        output, _ = child.communicate(timeout=timeout_seconds)
    except BaseException:
        child.kill()
        child.wait()
        raise
    text: str = output.decode(errors="replace")
    if child.returncode != 0:
        raise HostCommandError(words, child.returncode, text)
    return text


def spawn(
    argv: Sequence[str],
    *,
    output: int,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that the kernel kills when this process dies, however it dies.

    It is in a session of its own, so that Ctrl-C reaches only this process, which then ends its
    children in order.
    """
    return _SPAWNER.submit(
        subprocess.Popen,
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=env,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    ).result()


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def require_root() -> None:
    """Raise unless this process may make namespaces, taps and mounts."""
    if os.geteuid() != 0:
        raise HostUnfitError("the lab needs root for its network namespace: run it with sudo")
    if not Path("/dev/net/tun").exists():
        raise HostUnfitError("the lab needs /dev/net/tun for its networks")


def install_tools() -> None:
    """Install the host packages the lab needs, when one is missing."""
    run("bash", HERE / "install-host.sh")


def debian_mirror() -> str:
    """Return the address this host's own package manager takes Debian from."""
    query = ("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    for refresh in (False, True):
        if refresh:
            run("apt-get", "update")
        found = run(*query, "Origin: Debian", "Label: Debian").split()
        if found:
            return found[0]
    raise HostUnfitError("the package manager of this host is not set up for any Debian mirror")


def cache_folder() -> Path:
    """Return the folder for everything that takes long to make, outside the source tree."""
    default = Path.home() / ".cache" / "tcmu-restore"
    folder = Path(os.environ.get("TCMU_RESTORE_CACHE") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock file, so that one process at a time builds a thing."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_atomically(target: Path, build: Callable[[Path], None]) -> Path:
    """Make a folder once: `build` fills a new one, which gets its name only when complete."""
    with locked(target.with_name(f"{target.name}.lock")):
        if not target.exists():
            unfinished = target.with_name(f"{target.name}.part")
            remove_tree(unfinished)
            unfinished.mkdir()
            try:
                build(unfinished)
            except BaseException:
                remove_tree(unfinished)
                raise
            unfinished.rename(target)
    return target


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it; it need not exist."""
    shutil.rmtree(path, ignore_errors=True)
