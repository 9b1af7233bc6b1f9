"""Compile the plugin: C glue, cffi's embedding of this Python, and which modules to import.

Runs on the machine that will load it, because the plugin is tied to one interpreter, one
cffi and one libc. Needs a C compiler and the headers of Python, nothing of tcmu-runner.
"""

from __future__ import annotations

import contextlib
import io
import json
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cffi

from ..errors import UserError
from ..options import INSTALLED_HANDLER_NAME

HERE: Final = Path(__file__).parent
PACKAGE_ROOT: Final = HERE.parent.parent

ENTRY_MODULE: Final = "tcmu_restore.handler.entry_points"
MODULE: Final = "tcmu_restore_handler"

C_SOURCES: Final = ("handler_glue.c", "command_queue.c", "embed_python.c")

CALLBACKS: Final = """
extern "Python+C" {
    int glue_python_init(void);
    void glue_python_destroy(void);
    int glue_python_check_config(const char *config, char *reason, uint64_t reason_size);
    int glue_python_open(struct tcmu_device *dev, int reopen);
    void glue_python_close(struct tcmu_device *dev);
    int glue_python_resize(struct tcmu_device *dev, uint64_t size);
}
"""
"""Declared in handler_glue.h too; that they agree is checked by the C compiler."""

INIT_CODE: Final = """
import sys
for folder in {folders!r}:
    if folder not in sys.path:
        sys.path.append(folder)
import {module}
"""

_COMPILE_FLAGS: Final = ("-O2", "-g", "-fPIC", "-DNDEBUG", "-fvisibility=hidden")
_STRICT_FLAGS: Final = ("-std=gnu11", "-Wall", "-Wextra")


@dataclass(eq=False)
class HandlerInstallError(UserError):
    """The plugin cannot be compiled or put in place; *reason* says what is missing, and how to
    get it, or what was written before it failed."""

    reason: str
    template = "The handler cannot be installed: {reason}."


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What compiles and links against the running interpreter."""

    compiler: tuple[str, ...]
    include_dirs: tuple[Path, ...]
    library: str
    library_dir: Path
    is_library_dir_standard: bool


def find_toolchain() -> Toolchain:
    """Return the tools for this interpreter, or raise HandlerInstallError naming the package."""
    compiler = tuple(shlex.split(sysconfig.get_config_var("CC") or "cc"))
    if not shutil.which(compiler[0]):
        compiler = ("cc",)
    if not shutil.which(compiler[0]):
        raise HandlerInstallError("there is no C compiler (Debian: apt install gcc libc6-dev)")
    paths = sysconfig.get_paths()
    include_dirs = tuple(dict.fromkeys(Path(paths[key]) for key in ("include", "platinclude")))
    if not any((folder / "Python.h").exists() for folder in include_dirs):
        raise HandlerInstallError("there is no Python.h (Debian: apt install python3-dev)")
    library_dir, library = _find_libpython()
    standard = {Path("/lib"), Path("/usr/lib"), Path("/lib64"), Path("/usr/lib64")}
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        standard |= {folder / multiarch for folder in (Path("/lib"), Path("/usr/lib"))}
    return Toolchain(compiler, include_dirs, library, library_dir, library_dir in standard)


def _find_libpython() -> tuple[Path, str]:
    name = sysconfig.get_config_var("INSTSONAME")
    if name and ".so" in name:
        for key in ("LIBDIR", "LIBPL"):
            folder = sysconfig.get_config_var(key)
            if folder and (Path(folder) / name).exists():
                return Path(folder), name
        multiarch = Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH"))
        if (multiarch / name).exists():
            return multiarch, name
    version = platform.python_version()
    raise HandlerInstallError(f"Python {version} has no shared library (Debian: python3-dev)")


def python_paths() -> list[str]:
    """Return the folders that the embedded interpreter must search (most of them it does)."""
    paths = sysconfig.get_paths()
    folders = [str(PACKAGE_ROOT), paths["purelib"], paths["platlib"]]
    return list(dict.fromkeys(folders))


def build_handler(
    folder: Path,
    *,
    entry_module: str = ENTRY_MODULE,
    extra_paths: Sequence[Path] = (),
    strict: bool = False,
) -> Path:
    """Compile the plugin into *folder* and return its path.

    Args:
        folder: an existing directory.
        entry_module: what the embedded interpreter imports; tests give their own.
        extra_paths: more folders for its ``sys.path``.
        strict: warnings in our C are errors, as in the tests. (Not when a user installs:
            a newer compiler may warn about something else.)

    Raises:
        HandlerInstallError: something is missing, or the compiler failed (then with its output).
    """
    toolchain = find_toolchain()
    folders = [*(str(path) for path in extra_paths), *python_paths()]
    with tempfile.TemporaryDirectory(prefix="tcmu-restore-build-") as scratch:
        generated = Path(scratch) / "embedding.c"
        _generate(generated, INIT_CODE.format(folders=folders, module=entry_module))
        objects = [_compile(toolchain, generated, Path(scratch), flags=("-w",))]
        ours = (*_STRICT_FLAGS, "-Werror") if strict else _STRICT_FLAGS
        objects += [
            _compile(toolchain, HERE / name, Path(scratch), flags=ours) for name in C_SOURCES
        ]
        return _link(toolchain, objects, folder / INSTALLED_HANDLER_NAME)


def _generate(path: Path, init_code: str) -> None:
    ffi = cffi.FFI()
    ffi.cdef((HERE / "glue_interface.h").read_text())
    ffi.cdef(CALLBACKS)
    ffi.embedding_api("int glue_python_ready(void);")
    ffi.embedding_init_code(init_code)
    ffi.set_source(MODULE, '#include "handler_glue.h"')
    with contextlib.redirect_stdout(io.StringIO()):  # it says what it generates
        ffi.emit_c_code(str(path))


def _compile(toolchain: Toolchain, source: Path, scratch: Path, *, flags: Sequence[str]) -> Path:
    target = scratch / f"{source.stem}.o"
    includes = [f"-I{folder}" for folder in (HERE, *toolchain.include_dirs)]
    python = f"-DGLUE_PYTHON={json.dumps(sys.executable)}"
    _run(
        [*toolchain.compiler, *_COMPILE_FLAGS, *flags, python, *includes],
        ["-c", str(source), "-o", str(target)],
    )
    return target


def _link(toolchain: Toolchain, objects: Sequence[Path], target: Path) -> Path:
    search = [f"-L{toolchain.library_dir}"]
    if not toolchain.is_library_dir_standard:
        search.append(f"-Wl,-rpath,{toolchain.library_dir}")
    # tcmur_* and tcmu_* stay undefined: the daemon has them
    _run(
        [*toolchain.compiler, "-shared", "-pthread", *map(str, objects)],
        [*search, f"-l:{toolchain.library}", "-ldl", "-o", str(target)],
    )
    return target


def _run(command: Sequence[str], arguments: Sequence[str]) -> None:
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise HandlerInstallError(f"{command[0]} failed:\n{result.stderr.strip()}\n")
