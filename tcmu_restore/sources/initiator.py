"""The name by which this host logs in to targets."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Final

INITIATOR_FILE: Final = Path("/etc/iscsi/initiatorname.iscsi")


def initiator_name() -> str:
    """Return this host's IQN as open-iscsi has it, or one made of the host's name."""
    try:
        for line in INITIATOR_FILE.read_text(encoding="ascii").splitlines():
            if line.startswith("InitiatorName="):
                return line.partition("=")[2].strip()
    except (OSError, ValueError):
        pass
    host = re.sub(r"[^a-z0-9.-]", "-", socket.gethostname().lower()) or "localhost"
    return f"iqn.2026-11.org.tcmu-restore:{host}"
