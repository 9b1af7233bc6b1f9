"""A box for Vagrant, built on the spot out of the lab's base root.

It is a folder with the disk, the kernel and a Vagrantfile that knows where they are; the disk
holds the Debian packages and wheels of the lab, and the project is left to provision-project.sh.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from vagrant import host
from vagrant.accelerator import KVM, choose_accelerator
from vagrant.errors import HostUnfitError
from vagrant.image import build_base_root, digest
from vagrant.project_image import GUEST_FILES
from vagrant.timing import StepTimer

BOX_NAME = "tcmu-restore"
BOX_FILES = host.HERE / "box"
DISK_SIZE_GIB = 4  # sparse


def install_vagrant() -> None:
    """Install Vagrant and libvirt on this host, when one is missing."""
    host.run("bash", host.HERE / "install-vagrant.sh")


def build_box(timer: StepTimer) -> Path:
    """Return the folder of the box for the present lists, making it if it is not in the cache.

    Older boxes are removed: they are of no use, and 0.8 GiB each.
    """
    base = build_base_root(timer)
    files = [path for folder in (BOX_FILES, GUEST_FILES) for path in sorted(folder.iterdir())]
    key = digest((path.name, path) for path in [Path(__file__), *files])

    def build(folder: Path) -> None:
        with timer.step("make the box"):
            _build_disk(base, folder)
        for name in ("Vagrantfile", "emulator"):
            shutil.copy2(BOX_FILES / name, folder)
        if choose_accelerator(folder / "vmlinux") is KVM:
            (folder / "kvm").touch()
        metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": DISK_SIZE_GIB}
        (folder / "metadata.json").write_text(json.dumps(metadata))

    target = host.cache_folder() / f"box-{base.name[5:]}-{key}"
    for other in target.parent.glob("box-*"):
        if other.is_dir() and other.name.removesuffix(".part") != target.name:
            host.remove_tree(other)
    return host.make_atomically(target, build)


def pack_box(folder: Path, target: Path) -> None:
    """Write the archive that `vagrant box add` takes."""
    host.run("tar", "--create", "--sparse", "--file", target, "--directory", folder, ".")


def _build_disk(base: Path, folder: Path) -> None:
    namespace = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child")
    with tempfile.TemporaryDirectory(prefix="tcmu-box-", dir=folder.parent) as scratch:
        script = ("bash", BOX_FILES / "build-box.sh", base, GUEST_FILES, _public_key(), scratch)
        log = host.run(*namespace, *script, folder, f"{DISK_SIZE_GIB}G")
    (folder / "build.log").write_text(log)


def _public_key() -> Path:
    """Return the public half of the key that Vagrant uses for every box that is not for keeps."""
    listing = host.run("dpkg-query", "--listfiles", "vagrant").splitlines()
    for name in listing:
        if name.endswith("/keys/vagrant.pub"):
            return Path(name)
    raise HostUnfitError("the package vagrant has no keys/vagrant.pub")
