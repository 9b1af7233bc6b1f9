"""`python -m vagrant`: build the image, or bring the lab up for a person."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vagrant import host
from vagrant.errors import LabError
from vagrant.project_image import build_boot_files
from vagrant.timing import StepTimer


def main() -> int:
    """Run one command; the exit status is 1 when it failed."""
    parser = argparse.ArgumentParser(prog="python -m vagrant", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    box = commands.add_parser("box", help="build a box for Vagrant, which must be installed")
    box.add_argument("file", type=Path, help="where `vagrant box add` shall find it")
    commands.add_parser("image", help="build what the machines boot from and print the timing")
    up = commands.add_parser("up", help="boot the three machines and read commands for them")
    up.add_argument("--bare", action="store_true", help="without this tree's package")
    arguments = parser.parse_args()
    try:
        if arguments.command == "image":
            _build_image()
        elif arguments.command == "box":
            _build_box(arguments.file)
        else:
            _bring_up(with_project=not arguments.bare)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _build_image() -> None:
    host.require_root()
    host.install_tools()
    timer = StepTimer(print)
    with timer.step("in all"):
        boot = build_boot_files(timer)
    print((boot.folder / "build.log").read_text())
    print(boot.folder)


def _build_box(file: Path) -> None:
    from vagrant.box import build_box, install_vagrant, pack_box  # noqa: PLC0415 - likewise

    host.require_root()
    install_vagrant()
    folder = build_box(StepTimer(print))
    file.parent.mkdir(parents=True, exist_ok=True)
    pack_box(folder, file)


def _bring_up(*, with_project: bool) -> None:
    from vagrant.shell import read_commands  # noqa: PLC0415 (needs no lab for `image`)

    read_commands(with_project=with_project)


if __name__ == "__main__":
    sys.exit(main())
