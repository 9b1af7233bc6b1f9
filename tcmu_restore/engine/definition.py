"""A volume's definition: a root-only TOML file. Everything in it is treated as hostile."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..core.mirroring import MirrorPolicy
from ..errors import (
    BadDefinitionError,
    BadNameError,
    BadSettingError,
    UnknownVolumeError,
    VolumeExistsError,
)
from ..options import OPTION_LIMITS, VOLUME_NAME, VOLUME_NAME_LENGTH_MAX, VolumeOptions
from ..sources.private_file import parse_toml, read_private
from ..whole_file import write_whole
from .link_settings import LIVE_KEYS, LinkSettings, live_settings, parse_link

FILE_LENGTH_MAX = 64 * 1024
"""Bytes; a definition with every setting has a few hundred."""


@dataclass(frozen=True, slots=True)
class PeerDefinition:
    """One iSCSI LUN and how to reach it."""

    url: str
    credentials: str | None = None
    link: LinkSettings = field(default_factory=LinkSettings)


@dataclass(frozen=True, slots=True)
class ShippedDefinition:
    """What may be done by itself with a disk that is carried here; nothing is the default."""

    mount: bool = False
    """Mount a removable disk that arrives, read-only, to look for snapshots of this volume."""

    auto_attach: bool = False
    """Attach a snapshot of this volume that arrives, and start the merge."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What the admin wants of one volume."""

    primary: str
    backup: PeerDefinition
    mirror: MirrorPolicy = MirrorPolicy.SYNC
    protected: bool = False
    """The admin wants it to stay mirrored: no handover is advised."""

    options: VolumeOptions = field(default_factory=VolumeOptions)
    shipped: ShippedDefinition = field(default_factory=ShippedDefinition)
    snapshot_link: dict[str, Any] = field(default_factory=dict)
    """How snapshots are reached, unless AttachSnapshot says otherwise. See ``parse_link``."""


def check_name(name: str) -> None:
    """Raise BadNameError unless *name* can name a volume."""
    if VOLUME_NAME.fullmatch(name) is None:
        raise BadNameError(name[: 2 * VOLUME_NAME_LENGTH_MAX], VOLUME_NAME_LENGTH_MAX)


def definition_path(directory: Path, name: str) -> Path:
    """Return where the definition of *name* is kept; checks the name."""
    check_name(name)
    return directory / f"{name}.toml"


def load_definition(directory: Path, name: str) -> Definition:
    """Read the definition of *name*.

    Raises:
        UnknownVolumeError: there is none. BadNameError, BadDefinitionError: see there.
    """
    path = definition_path(directory, name)
    try:
        raw = parse_toml(read_private(path, FILE_LENGTH_MAX))
    except FileNotFoundError:
        raise UnknownVolumeError(name) from None
    except (OSError, ValueError) as error:
        raise BadDefinitionError(str(path), str(error)) from error
    try:
        return _parse(raw)
    except (TypeError, ValueError, BadSettingError) as error:
        raise BadDefinitionError(str(path), str(error)) from error


def _parse(raw: dict[str, Any]) -> Definition:
    raw = dict(raw)
    peer = dict(_take(raw, "backup", dict))
    backup = PeerDefinition(
        url=_take(peer, "url", str),
        credentials=_take(peer, "credentials", str) if "credentials" in peer else None,
        link=parse_link({key: peer.pop(key) for key in LIVE_KEYS if key in peer}, bulk=False),
    )
    snapshot_link = _take(raw, "snapshot_link", dict) if "snapshot_link" in raw else {}
    parse_link(snapshot_link, bulk=True)
    options = _parse_options(_take(raw, "options", dict) if "options" in raw else {})
    mirror = parse_mirror(_take(raw, "mirror", str)) if "mirror" in raw else MirrorPolicy.SYNC
    carried = dict(_take(raw, "shipped", dict)) if "shipped" in raw else {}
    shipped = ShippedDefinition(
        **{name: _take(carried, name, bool) for name in ("mount", "auto_attach") if name in carried}
    )
    protected = _take(raw, "protected", bool) if "protected" in raw else False
    primary = _take(raw, "primary", str)
    definition = Definition(primary, backup, mirror, protected, options, shipped, snapshot_link)
    for table, name in ((raw, "the file"), (peer, "[backup]"), (carried, "[shipped]")):
        if table:
            raise ValueError(f"unknown setting in {name}: {', '.join(sorted(table))}")
    return definition


def parse_mirror(word: str) -> MirrorPolicy:
    """Return the policy of that name. Raises BadSettingError."""
    try:
        return MirrorPolicy(word)
    except ValueError:
        raise BadSettingError("mirror", word, "it must be sync, async or strict") from None


def _take(table: dict[str, Any], name: str, kind: type) -> Any:
    if name not in table:
        raise ValueError(f"{name!r} is missing")
    value = table.pop(name)
    if type(value) is not kind:
        raise ValueError(f"{name!r} must be a {kind.__name__}")
    return value


def _parse_options(raw: dict[str, Any]) -> VolumeOptions:
    defaults = VolumeOptions()
    known = {item.name: type(getattr(defaults, item.name)) for item in fields(defaults)}
    for name, value in raw.items():
        if name not in known:
            raise ValueError(f"unknown setting in [options]: {name}")
        is_number = isinstance(value, (int, known[name])) and not isinstance(value, bool)
        if not is_number or not 0 < value <= OPTION_LIMITS[name]:  # nan is neither
            kind, most = known[name].__name__, OPTION_LIMITS[name]
            raise ValueError(f"{name!r} must be a positive {kind}, at most {most}")
    options = replace(defaults, **raw)
    for name in ("region_size", "zone_size"):
        size = getattr(options, name)
        if size & (size - 1):
            raise ValueError(f"{name!r} must be a power of two")
    if not 4096 <= options.region_size <= options.zone_size:  # noqa: PLR2004 - a page
        raise ValueError("region_size must be at least 4096 and at most zone_size")
    return options


def save_definition(directory: Path, name: str, definition: Definition) -> None:
    """Write the definition of a new volume, mode 0600, whole or not at all.

    Raises:
        VolumeExistsError: there is one already. BadDefinitionError: it cannot be written.
    """
    path = definition_path(directory, name)
    if path.exists():
        raise VolumeExistsError(name)
    lines = [f"primary = {_quote(definition.primary)}"]
    if definition.mirror is not MirrorPolicy.SYNC:
        lines.append(f"mirror = {_quote(definition.mirror.value)}")
    lines += ["", "[backup]", *_peer_lines(definition.backup)]
    try:
        make_private(directory)
        write_whole(path, "\n".join(lines) + "\n")
    except OSError as error:
        raise BadDefinitionError(str(path), str(error)) from error


def _peer_lines(peer: PeerDefinition) -> list[str]:
    lines = [f"url = {_quote(peer.url)}"]
    if peer.credentials is not None:
        lines.append(f"credentials = {_quote(peer.credentials)}")
    lines += [f"{name} = {_quote(value)}" for name, value in live_settings(peer.link).items()]
    return lines


def save_primary(directory: Path, name: str, primary: str) -> None:
    """Name another primary in the definition of *name*; the rest stays as the admin wrote it.

    Raises:
        BadDefinitionError: it cannot be read or written; it is as it was.
    """
    path = definition_path(directory, name)
    line = f"primary = {_quote(primary)}"
    try:
        text = path.read_text(encoding="utf-8")
        write_whole(path, _PRIMARY_LINE.sub(lambda _: line, text, count=1))
    except (OSError, ValueError) as error:
        raise BadDefinitionError(str(path), str(error)) from error
    if load_definition(directory, name).primary != primary:
        raise BadDefinitionError(str(path), "its line 'primary' could not be changed; edit it")


_PRIMARY_LINE = re.compile(r"^[ \t]*primary[ \t]*=.*$", re.MULTILINE)
"""The first one is the volume's: TOML wants top-level settings before any table."""

_POLICY_LINES = re.compile(r"^[ \t]*(mirror|protected)[ \t]*=.*\n?", re.MULTILINE)


def save_protection(directory: Path, name: str, mirror: MirrorPolicy) -> None:
    """Write into the definition of *name* that it stays mirrored, and how; the rest stays.

    Raises:
        BadDefinitionError: it cannot be read or written; it is as it was.
    """
    path = definition_path(directory, name)
    lines = f"mirror = {_quote(mirror.value)}\nprotected = true\n"
    try:
        text = path.read_text(encoding="utf-8")
        table = re.search(r"^[ \t]*\[", text, re.MULTILINE)
        start = table.start() if table else len(text)
        top = _POLICY_LINES.sub("", text[:start])
        changed = lines + top + text[start:]
        parse_toml(changed.encode())
        write_whole(path, changed)
    except (OSError, ValueError) as error:
        raise BadDefinitionError(str(path), str(error)) from error


def _quote(value: object) -> str:
    """Return *value* in TOML: as in JSON, but surrogates cannot be escaped there, and DEL must."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def make_private(directory: Path) -> None:
    """Make *directory* if it is missing, and let only its owner in. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)
