"""Where a metric's values stand in a status.

Pure. A reader takes the status of a volume that is served, unless it says otherwise, and yields the
values of the metric's own labels beside each number; what a status does not say has no sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, cast, get_args

from ..service.registry_seam import Traffic, VolumeState, VolumeStatus
from .condition import conditions as conditions_of

Sample = tuple[tuple[str, ...], float]
"""Values of a metric's own labels, in order, and the number."""

Reader = Callable[[VolumeStatus], Iterable[Sample]]


def conditions(status: VolumeStatus) -> Iterator[Sample]:
    """Yield every condition and ``closed``, 1 for what holds."""
    holds = {condition["name"] for condition in conditions_of(status)}
    for name in get_args(VolumeState):
        yield (name,), float(name in holds)


def state_file_ok(status: VolumeStatus) -> Iterator[Sample]:
    """Yield whether the state file can be used, where that is known."""
    state_file = status.get("state_file")
    if state_file is not None:
        yield (), float(not state_file["error"])


def size(status: VolumeStatus) -> Iterator[Sample]:
    """Yield the volume's size, where it is known."""
    if status.get("size"):
        yield (), status["size"]


def regions(status: VolumeStatus) -> Iterator[Sample]:
    """Yield the number of regions of each kind."""
    for kind in ("current", "host_written", "stale", "lost", "in_doubt", "outdated"):
        yield (kind,), cast(dict[str, int], status["regions"]).get(kind, 0)


def reachable(status: VolumeStatus) -> Iterator[Sample]:
    """Yield whether each source answers."""
    yield ("backup",), float(status["backup"]["reachable"])
    if status["snapshot"] is not None:
        yield ("snapshot",), float(status["snapshot"]["reachable"])


def traffic(key: str, *, factor: float = 1) -> Reader:
    """Return a reader of *key* of each source that has it."""

    def read(status: VolumeStatus) -> Iterator[Sample]:
        sources: tuple[tuple[str, Traffic | None], ...] = (
            ("backup", status["backup"]),
            ("snapshot", status["snapshot"]),
        )
        for name, source in sources:
            value = cast(dict[str, float | None], source or {}).get(key)
            if value is not None:
                yield (name,), value * factor

    return read


def bulk_link(status: VolumeStatus) -> Iterator[Sample]:
    """Yield whether a command has brought the bulk link up, and none has surely taken it down."""
    link = status.get("bulk_link")
    yield (), float(link is not None and link["state"] != "down")


def counters(keys: dict[str, str]) -> Reader:
    """Return a reader of several counters; *keys* are by the value of the metric's one label."""

    def read(status: VolumeStatus) -> Iterator[Sample]:
        for label, key in keys.items():
            if key in status["counters"]:
                yield (label,) if label else (), status["counters"][key]

    return read


def counter(key: str) -> Reader:
    """Return a reader of one counter."""
    return counters({"": key})


def job_state(job: Literal["merge", "resync", "verify"], words: tuple[str, ...]) -> Reader:
    """Return a reader of every state in *words*, 1 for the job's."""

    def read(status: VolumeStatus) -> Iterator[Sample]:
        if job in status:
            for word in words:
                yield (word,), float(status[job]["state"] == word)

    return read


def job(job: Literal["merge", "resync", "verify", "heat"], key: str) -> Reader:
    """Return a reader of *key* of a job."""

    def read(status: VolumeStatus) -> Iterator[Sample]:
        if job in status:
            yield (), cast(dict[str, float], status[job])[key]

    return read


def armed_zones(status: VolumeStatus) -> Iterator[Sample]:
    """Yield the number of armed zones."""
    zones = status.get("armed_zones")
    if zones is not None:
        yield (), zones
