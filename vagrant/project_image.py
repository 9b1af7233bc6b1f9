"""What the machines boot from: the base root, trimmed, with this tree's package, as a file system.

One folder per state of the source, a few of them kept. The base root is the lower layer of an
overlay, in a mount namespace of its own: no mount survives the build.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vagrant import host
from vagrant.errors import HostCommandError
from vagrant.image import build_base_root, digest
from vagrant.timing import StepTimer

GUEST_FILES = host.HERE / "guest"
SOURCES = ("tcmu_restore", "targetcli_ext", "pyproject.toml", "setup.py", "README.md")
ROOT_SIZE = "4G"  # sparse; leaves the machines over 2 GiB
_KEEP_COUNT = 4  # of about 0.8 GiB each


@dataclass(frozen=True)
class BootFiles:
    """All that a machine boots from. The root image is only ever a backing file."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """The uncompressed kernel."""
        return self.folder / "vmlinux"

    @property
    def initrd(self) -> Path:
        """The initrd that mounts /dev/vda."""
        return self.folder / "initrd"

    @property
    def root_image(self) -> Path:
        """The root file system."""
        return self.folder / "root.ext4"


def list_sources(repository: Path = host.REPOSITORY) -> list[Path]:
    """Return the project's files as Git sees them: tracked, or new and not ignored."""
    listing = ("git", "-C", repository, "ls-files", "-z", "-co", "--exclude-standard", "--")
    try:
        names = host.run(*listing, *SOURCES).split("\0")
    except HostCommandError:  # an unpacked release, not a clone
        names = [
            str(path.relative_to(repository))
            for start in SOURCES
            for path in (repository / start, *sorted((repository / start).rglob("*")))
            if "__pycache__" not in path.parts
        ]
    return sorted({Path(name) for name in names if name and (repository / name).is_file()})


def build_boot_files(timer: StepTimer, *, with_project: bool = True) -> BootFiles:
    """Return boot files for the present source, making what the cache lacks."""
    base = build_base_root(timer)
    sources = list_sources() if with_project else []
    if Path("pyproject.toml") not in sources:
        sources = []
    inputs = [(str(path), host.REPOSITORY / path) for path in sources]
    inputs += [(f"guest {path.name}", path) for path in sorted(GUEST_FILES.iterdir())]
    folder = host.cache_folder() / f"root-{base.name[5:]}-{digest(inputs)}"

    def build(unfinished: Path) -> None:
        _copy_sources(sources, unfinished / "source")
        with timer.step("trim the boot, install the project, make the file system"):
            output = _build_layer(base, unfinished)
        (unfinished / "build.log").write_text(output)
        host.remove_tree(unfinished / "source")

    host.make_atomically(folder, build)
    os.utime(folder)
    _prune(folder)
    return BootFiles(folder)


@contextmanager
def in_use(boot: BootFiles) -> Iterator[None]:
    """Keep the root image from being pruned by another process."""
    with _lock_file(boot.folder).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _copy_sources(sources: list[Path], target: Path) -> None:
    target.mkdir()
    for name in sources:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(host.REPOSITORY / name, target / name)


def _build_layer(base: Path, folder: Path) -> str:
    """Run the layer script in a mount and process namespace that ends with it."""
    namespace = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child")
    with tempfile.TemporaryDirectory(prefix="tcmu-layer-") as scratch:
        script = ("bash", GUEST_FILES / "build-layer.sh", base, folder / "source", scratch)
        return host.run(*namespace, *script, folder, ROOT_SIZE)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.used")


def _prune(newest: Path) -> None:
    """Remove all but the few root images used last, and never one that a lab is using."""
    folders = [path for path in newest.parent.glob("root-*") if path.is_dir()]
    folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in folders[_KEEP_COUNT:]:
        with _lock_file(folder).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            host.remove_tree(folder)
