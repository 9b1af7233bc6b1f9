"""rtslib, as it is installed. Distributions ship it as ``rtslib``, as ``rtslib_fb``, or as both."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType


def load_rtslib() -> ModuleType | None:
    """Return rtslib, or None if it is not installed."""
    # it moves the kernel's db_root before the first device and complains after it
    warnings.filterwarnings("ignore", message="Cannot set dbroot")
    for name in ("rtslib", "rtslib_fb"):
        try:
            module = importlib.import_module(name)
            importlib.import_module(f"{name}.tcm")
        except ImportError:
            continue
        return module
    return None
