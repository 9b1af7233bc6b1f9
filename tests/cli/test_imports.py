"""What the command line loads before it knows what to do: little, so that help comes at once."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("rich", "dbus_fast", "asyncio", "prometheus_client", "matplotlib", "zstandard", "asyncssh")
"""Each takes 10 ms to a second; a command that needs one loads it."""

CODE = "import sys; from tcmu_restore.cli.main import cli; cli(%r, standalone_mode=False); "
TELL = "print([name for name in %r if name in sys.modules])"


def loaded(*arguments: str) -> str:
    code = CODE % (list(arguments),) + TELL % (SLOW,)
    words = [sys.executable, "-c", code]
    output = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    return output.splitlines()[-1]


def test_help_loads_nothing_slow() -> None:
    assert loaded("--help") == "[]"
    assert loaded("merge", "start", "--help") == "[]"
