"""The parts of the box that need neither Vagrant nor libvirt."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from vagrant.box import BOX_FILES, pack_box


def test_emulator_asks_for_a_small_code_cache(tmp_path: Path) -> None:
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_text('#!/bin/sh\necho "$@"\n')
    qemu.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = [str(BOX_FILES / "emulator"), "-accel", "tcg", "-name", "a b"]
    said = subprocess.run(
        command, env={"PATH": path}, capture_output=True, text=True, check=True
    ).stdout
    assert said == "-accel tcg,thread=multi,tb-size=128 -name a b\n"


def test_archive_has_the_box_s_files_at_its_top(tmp_path: Path) -> None:
    folder = tmp_path / "box"
    folder.mkdir()
    for name in ("metadata.json", "Vagrantfile", "box.img"):
        (folder / name).write_text(name)
    pack_box(folder, tmp_path / "box.tar")
    with tarfile.open(tmp_path / "box.tar") as archive:
        names = {os.path.normpath(name) for name in archive.getnames()}
    assert names == {".", "metadata.json", "Vagrantfile", "box.img"}
