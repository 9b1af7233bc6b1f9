"""The base image: a root folder of Debian 13 with all packages, as it is delivered.

Made once per list of packages and kept in the cache folder, which is never in the tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from vagrant import host
from vagrant.timing import StepTimer

SUITE = "trixie"
PACKAGE_LIST = host.HERE / "packages.txt"
WHEEL_LIST = host.HERE / "wheels.txt"

# Debian 13's interpreter, and every wheel tag its C library can load.
_PYTHON = "3.13"
_WHEEL_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_24_x86_64", "manylinux_2_28_x86_64")


def build_base_root(timer: StepTimer) -> Path:
    """Return the root folder of the present lists, making it if it is not in the cache."""
    inputs = (Path(__file__), PACKAGE_LIST, WHEEL_LIST)
    key = digest((path.name, path) for path in inputs)

    def build(folder: Path) -> None:
        with timer.step("install Debian packages"):
            _install_debian(folder)
        with timer.step("install wheels"):
            _install_wheels(folder)

    return host.make_atomically(host.cache_folder() / f"base-{key}", build)


def read_list(path: Path) -> list[str]:
    """Return the lines of a list file that are neither empty nor comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def digest(files: Iterable[tuple[str, Path]]) -> str:
    """Return a short hash of the names, modes and contents of files."""
    total = hashlib.sha256()
    for name, path in files:
        content = path.read_bytes()
        total.update(f"{name}\0{path.stat().st_mode:o}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()[:16]


def _install_debian(root: Path) -> None:
    host.run(
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(read_list(PACKAGE_LIST))}",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc")),
        SUITE,
        root,
        host.debian_mirror(),
        env={"INITRD": "No"},  # the kernel package then makes no initrd: ours is tiny
    )


def _install_wheels(root: Path) -> None:
    """Install what Debian lacks; the machines themselves reach no package index."""
    wheels = root / "var/tmp/wheels"
    platforms = [f"--platform={name}" for name in _WHEEL_PLATFORMS]
    host.run(
        *("python3", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
        *(f"--python-version={_PYTHON}", "--implementation=cp", f"--dest={wheels}"),
        *platforms,
        *read_list(WHEEL_LIST),
    )
    names = [f"/var/tmp/wheels/{path.name}" for path in sorted(wheels.iterdir())]
    install = ("pip", "install", "--no-index", "--no-deps", "--break-system-packages")
    host.run("chroot", root, "python3", "-m", *install, *names)
    host.remove_tree(wheels)
