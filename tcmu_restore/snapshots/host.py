"""The outside world of a snapshot command; tests put their own in."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..installed_rtslib import load_rtslib
from . import command
from .backing import Backing, find_backing
from .command import Run
from .errors import LioUnavailableError
from .lio import Lio
from .portal import Portal, is_address_here
from .record import RecordFolder


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Host:
    """LIO, the records, the programs and the clock of this host."""

    lio: Lio
    records: RecordFolder = field(default_factory=RecordFolder)
    run: Run = command.run
    find_backing: Callable[[str, str, Run], Backing] = find_backing
    has_address: Callable[[Portal], bool] = is_address_here
    now: Callable[[], datetime] = _now


def this_host(rtslib: Any | None = None) -> Host:
    """Return this host, with the given copy of rtslib or the one that is installed.

    Raises:
        LioUnavailableError: not root, or rtslib is not installed.
    """
    if os.geteuid() != 0:
        raise LioUnavailableError("only root may use it")
    found = rtslib or load_rtslib()
    if found is None:
        raise LioUnavailableError("rtslib is not installed for this Python")
    return Host(Lio(found))
