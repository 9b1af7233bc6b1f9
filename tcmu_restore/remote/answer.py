"""What a backup host answers, checked. Pure. Nothing that comes from there is trusted."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from typing import Any, Final

from ..errors import BadAnswerError, BadUrlError
from ..sources.iscsi_url import parse_iscsi_url
from ..text import printable
from ..units import MiB
from .backup_host import Extents, RemoteSnapshot, SnapshotRequest

ANSWER_LENGTH_MAX: Final = 1 * MiB
"""Bytes; 4,096 extents are a tenth of it."""

EXTENTS_MAX: Final = 4096
"""What a volume can record."""

SENTENCE_LENGTH_MAX: Final = 500
"""Characters of an error that are shown."""

_NUMBER_MAX: Final = 2**63 - 1


def parse_answer(host: str, data: bytes) -> dict[str, Any]:
    """Return the one JSON object that *data* is. Raises BadAnswerError."""
    if len(data) > ANSWER_LENGTH_MAX:
        raise BadAnswerError(host, f"it is longer than {ANSWER_LENGTH_MAX} bytes")
    try:
        answer = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise BadAnswerError(host, "it is not JSON") from None
    if not isinstance(answer, dict):
        raise BadAnswerError(host, "it is not a JSON object")
    return answer


def parse_created(host: str, data: bytes, request: SnapshotRequest) -> RemoteSnapshot:
    """Return what ``snapshot-create --json`` says. Raises BadAnswerError."""
    answer = parse_answer(host, data)
    for name, wanted in (("snapshot", request.snapshot), ("origin", request.origin)):
        if answer.get(name) != wanted:
            raise BadAnswerError(host, f"its {name} is not {wanted}")
    extents = parse_extents(host, answer.get("extents"))
    if request.extents is not None and extents is None:
        raise BadAnswerError(host, "it says nothing of the extents that were asked for")
    return RemoteSnapshot(_url(host, answer.get("url")), extents)


def parse_listed(host: str, data: bytes) -> list[str]:
    """Return the names that ``snapshot-list --json`` says. Raises BadAnswerError."""
    snapshots = parse_answer(host, data).get("snapshots")
    if not isinstance(snapshots, list):
        raise BadAnswerError(host, "it has no list of snapshots")
    names = [item.get("snapshot") if isinstance(item, dict) else None for item in snapshots]
    if not all(isinstance(name, str) for name in names):
        raise BadAnswerError(host, "a snapshot in its list has no name")
    return [str(name) for name in names]


def parse_deleted(host: str, data: bytes, request: SnapshotRequest) -> bool:
    """Return whether ``snapshot-delete --json`` found it there. Raises BadAnswerError."""
    answer = parse_answer(host, data)
    existed = answer.get("existed")
    if answer.get("snapshot") != request.snapshot or not isinstance(existed, bool):
        raise BadAnswerError(host, "it does not say what was deleted")
    return existed


def parse_extents(host: str, value: object) -> Extents | None:
    """Return offsets and lengths in bytes, None for everything. Raises BadAnswerError."""
    if value is None:
        return None
    if not isinstance(value, list) or not 0 < len(value) <= EXTENTS_MAX:
        raise BadAnswerError(host, "its extents are not a list of a reasonable length")
    return tuple(_extent(host, item) for item in value)


def _extent(host: str, item: object) -> tuple[int, int]:
    match item:
        case [int(offset), int(length)] if not {type(offset), type(length)} - {int}:
            if 0 <= offset <= _NUMBER_MAX and 0 < length <= _NUMBER_MAX:
                return offset, length
    raise BadAnswerError(host, "one of its extents is not an offset and a length")


def _url(host: str, url: object) -> str:
    if not isinstance(url, str):
        raise BadAnswerError(host, "its url is not a text")
    try:
        return str(parse_iscsi_url(url))
    except BadUrlError as error:
        raise BadAnswerError(host, one_line(str(error))) from error


def one_line(text: str) -> str:
    """Return *text* in one line, not too long, without anything that a terminal would act on."""
    shown = printable(" ".join(text.split())).rstrip(".")
    return shown if len(shown) <= SENTENCE_LENGTH_MAX else shown[:SENTENCE_LENGTH_MAX] + "…"


def with_host(url: str, host: str) -> str:
    """Return *url*, at *host* where it says every address of the backup host (0.0.0.0 or [::])."""
    parsed = parse_iscsi_url(url)
    if parsed.host not in ("0.0.0.0", "::"):  # noqa: S104 - nothing is bound here
        return url
    return str(replace(parsed, host=host))


def check_url_host(host: str, url: str, allowed: frozenset[str]) -> None:
    """Raise BadAnswerError unless *url* leads to one of *allowed*: numeric addresses and names.

    A host that was broken into could name any target that this one can reach.
    """
    portal = parse_iscsi_url(url).host
    if canonical(portal) not in {canonical(name) for name in allowed}:
        reason = (
            f"the snapshot would be at {portal}, which is not an address of that host or of the "
            f"backup; if it is right, say so with --portal {portal}"
        )
        raise BadAnswerError(host, reason)


def canonical(name: str) -> str:
    """Return an address or a name as it compares."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.lower().rstrip(".")
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
