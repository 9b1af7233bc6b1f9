"""One command on a backup host over SSH. Each call is a connection of its own.

Only keys log in; no password is asked for or sent. The host's key must be known already.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncssh

from ..errors import (
    BackupHostUnreachableError,
    BadAnswerError,
    HostKeyUnknownError,
    SshLoginError,
)
from .answer import ANSWER_LENGTH_MAX, one_line
from .backup_host import HostSettings

CONNECT_SECONDS: Final = 20.0
COMMAND_SECONDS: Final = 300.0
"""A snapshot takes seconds; a thin pool under load may take a minute."""

KEEPALIVE_SECONDS: Final = 15
"""A link that dies in mid-command is noticed after three of these."""

KNOWN_HOSTS: Final = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))
_CHUNK: Final = 65536


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended. *status* is None if a signal ended it."""

    status: int | None
    output: bytes
    errors: bytes
    peer: str
    """The numeric address that the host was reached at."""


def run(settings: HostSettings, words: Sequence[str], seconds: float = COMMAND_SECONDS) -> Finished:
    """Run *words* on the host of *settings*, at most so many *seconds*.

    Raises:
        BackupHostUnreachableError: no connection, or it was lost; the command may have run.
        HostKeyUnknownError, SshLoginError: nothing was run.
        BadAnswerError: it printed more than anybody would read.
    """
    if settings.key is not None and not Path(settings.key).is_file():
        raise SshLoginError(settings.address, settings.user, f"there is no key {settings.key}")
    return asyncio.run(_run_in_time(settings, shlex.join(words), seconds))


async def _run_in_time(settings: HostSettings, command: str, seconds: float) -> Finished:
    host = settings.address
    try:
        async with asyncio.timeout(seconds):
            return await _connect_and_run(settings, command)
    except asyncssh.HostKeyNotVerifiable as error:
        raise HostKeyUnknownError(host, " or ".join(_known_hosts_names(settings))) from error
    except asyncssh.PermissionDenied as error:
        reason = "no key of ours is accepted there"
        raise SshLoginError(host, settings.user, reason) from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        reason = f"the key {settings.key} cannot be used ({one_line(str(error))})"
        raise SshLoginError(host, settings.user, reason) from error
    except TimeoutError as error:
        raise BackupHostUnreachableError(host, f"no answer within {seconds:g} s") from error
    except (asyncssh.Error, OSError) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise BackupHostUnreachableError(host, reason) from error


async def _connect_and_run(settings: HostSettings, command: str) -> Finished:
    async with asyncssh.connect(settings.address, **_options(settings)) as connection:
        peer = str(connection.get_extra_info("peername")[0])
        process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(
            command, encoding=None, stdin=asyncssh.DEVNULL
        )
        output, errors = await asyncio.gather(
            _read(settings.address, process.stdout), _read(settings.address, process.stderr)
        )
        await process.wait_closed()
        if process.exit_status is None and process.exit_signal is None:
            raise BackupHostUnreachableError(settings.address, "the connection was lost")
        status = None if process.exit_signal is not None else process.exit_status
        return Finished(status, output, errors, peer)


def _options(settings: HostSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": settings.user,
        "known_hosts": _known_hosts(settings),
        "preferred_auth": "publickey",
        "connect_timeout": CONNECT_SECONDS,
        "login_timeout": CONNECT_SECONDS,
        "keepalive_interval": KEEPALIVE_SECONDS,
    }
    if settings.port is not None:
        options["port"] = settings.port
    if settings.key is not None:
        options["client_keys"] = [settings.key]
        options["agent_path"] = None
    return options


def _known_hosts_names(settings: HostSettings) -> list[str]:
    if settings.known_hosts is not None:
        return [settings.known_hosts]
    return [str(path.expanduser()) for path in KNOWN_HOSTS]


def _known_hosts(settings: HostSettings) -> list[str] | bytes:
    """Return the files that are there; without any, that no host is known."""
    found = [name for name in _known_hosts_names(settings) if Path(name).is_file()]
    return found or b""


async def _read(host: str, stream: asyncssh.SSHReader[bytes]) -> bytes:
    data = bytearray()
    while chunk := await stream.read(_CHUNK):
        data += chunk
        if len(data) > ANSWER_LENGTH_MAX:
            raise BadAnswerError(host, f"it is longer than {ANSWER_LENGTH_MAX} bytes")
    return bytes(data)
