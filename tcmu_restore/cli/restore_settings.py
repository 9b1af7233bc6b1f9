"""What an admin says of a restore-from, in either shell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import BadSettingError
from ..remote.backup_host import Extents, HostSettings, SnapshotRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSettings:
    """What the admin said. *request* lacks its names; *origin* None: to be found out."""

    host: HostSettings
    request: SnapshotRequest
    origin: str | None = None
    credentials: str | None = None


def make_settings(  # noqa: PLR0913 - all of them keyword-only, as a shell has them
    *,
    address: str | None,
    user: str,
    port: int | None,
    key: str | None,
    known_hosts: str | None,
    login: str | None,
    origin: str | None,
    target: str | None,
    portal: str | None,
    extents: Extents | None,
    partition: int | None,
    provider: str | None,
    size: int | None,
    credentials: str | None,
) -> RestoreSettings | None:
    """Return what was typed, paths made absolute; None if no host was named: go on.

    Raises BadSettingError: an option is for the other kind of host.
    """
    if address is None:
        return None
    host = HostSettings(
        address=address,
        user=user,
        port=port,
        key=_absolute(key),
        known_hosts=_absolute(known_hosts),
        login=_absolute(login),
    )
    for name, value, is_for_targetd in (
        ("port", port, False),
        ("key", key, False),
        ("known-hosts", known_hosts, False),
        ("login", login, True),
    ):
        if value is not None and host.is_targetd is not is_for_targetd:
            kind = "targetd, and the host must be its URL" if is_for_targetd else "SSH"
            raise BadSettingError(name, str(value), f"it is for {kind}")
    request = SnapshotRequest(
        snapshot="",
        origin="",
        target=target,
        portal=portal,
        extents=extents,
        partition=partition,
        provider=provider,
        size=size,
    )
    return RestoreSettings(
        host=host, request=request, origin=origin, credentials=_absolute(credentials)
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())
