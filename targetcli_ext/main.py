"""``targetcli-restore``: the installed targetcli, with our nodes in it.

All arguments are targetcli's own. It must run with the interpreter that has targetcli, which is the
distribution's. If targetcli is set to hand its commands to targetclid (``auto_use_daemon``), they
run there, without our nodes.
"""

from __future__ import annotations

import importlib
import runpy
import shutil
import sys
from types import ModuleType
from typing import Final

from . import patch, saving

_MISSING: Final = (
    "targetcli-restore: targetcli is not installed for this Python ({reason}). "
    "Install the distribution's package targetcli-fb, or use: tcmu-restore"
)


def main() -> None:
    """Patch the installed targetcli and run it."""
    try:
        ui = importlib.import_module("targetcli.ui_backstore")
        root = importlib.import_module("targetcli.ui_root")
    except ImportError as error:
        sys.exit(_MISSING.format(reason=error))
    deleted: set[str] = set()
    patch.install(ui, deleted)
    saving.install(root, deleted)
    run()


def run() -> None:
    """Run targetcli's own main: a module in 3.x, before that only a script."""
    shell = _find_shell_module()
    if shell is not None:
        shell.main()
        return
    script = shutil.which("targetcli")
    if script is None:
        sys.exit(_MISSING.format(reason="there is no script targetcli on the PATH"))
    runpy.run_path(script, run_name="__main__")


def _find_shell_module() -> ModuleType | None:
    try:
        return importlib.import_module("targetcli.targetcli_shell")
    except ModuleNotFoundError as error:
        if error.name != "targetcli.targetcli_shell":
            raise
        return None
