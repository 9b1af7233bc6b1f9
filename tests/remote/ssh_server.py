"""A real SSH server on loopback, in a thread, that runs a function for each command."""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from tcmu_restore.remote.backup_host import HostSettings

Answer = tuple[int, bytes, bytes]
"""Exit status, standard output, standard error."""

Command = Callable[[list[str]], Answer]

DROP = -1
"""As a status: the connection is cut before the command ends."""
SIGNAL = -2
"""As a status: a signal ends the command."""


@dataclass
class SshServer:
    """Where it listens, and how to log in."""

    port: int
    key: Path
    known_hosts: Path
    commands: list[list[str]]

    @property
    def settings(self) -> HostSettings:
        return HostSettings(
            address="127.0.0.1",
            port=self.port,
            key=str(self.key),
            known_hosts=str(self.known_hosts),
        )


@contextmanager
def ssh_server(folder: Path, command: Command) -> Iterator[SshServer]:
    """Serve until the block ends; each command runs in a thread of its own."""
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    user_key.write_private_key(str(folder / "key"))
    user_key.write_public_key(str(folder / "key.pub"))
    commands: list[list[str]] = []

    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
        words = shlex.split(process.command or "")
        commands.append(words)
        status, out, err = await asyncio.to_thread(command, words)
        process.stdout.write(out)
        process.stderr.write(err)
        if status == DROP:
            process.channel.get_connection().abort()
        elif status == SIGNAL:
            process.exit_with_signal("KILL")
        else:
            process.exit(status)

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            authorized_client_keys=str(folder / "key.pub"),
            process_factory=handle,
            encoding=None,
        )

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        acceptor = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
        port = acceptor.get_port()
        known = folder / "known_hosts"
        public = host_key.export_public_key().decode().strip()
        known.write_text(f"[127.0.0.1]:{port} {public}\n")
        yield SshServer(port, folder / "key", known, commands)
        asyncio.run_coroutine_threadsafe(_end(acceptor), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(acceptor: asyncssh.SSHAcceptor) -> None:
    acceptor.close()
    await acceptor.wait_closed()
    for _ in range(3):  # let the connections' own tasks end
        await asyncio.sleep(0)
