"""The tree's statuses: slightly old, and never a hang."""

from __future__ import annotations

from typing import Any, cast

from targetcli_ext.status_cache import FRESH_SECONDS, HEALTH, SILENCE_SECONDS, StatusCache
from tcmu_restore.cli.client import ServiceClient
from tcmu_restore.cli.errors import ReplyError
from tcmu_restore.errors import ServiceUnavailableError
from tcmu_restore.service.registry_seam import VolumeState, VolumeStatus
from tests.service.fake_registry import VERIFY, make_status


class FakeClient(ServiceClient):
    def __init__(self) -> None:
        super().__init__("unix:path=/nowhere")
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.changes: dict[str, Any] = {}

    def status(self, name: str) -> VolumeStatus:
        self.asked.append(name)
        if self.failure:
            raise self.failure
        return cast(VolumeStatus, make_status(name, **self.changes))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make_cache() -> tuple[StatusCache, FakeClient, Clock]:
    client, clock = FakeClient(), Clock()
    return StatusCache(client, clock=clock), client, clock


def test_fresh_status_is_not_asked_for_again() -> None:
    cache, client, clock = make_cache()
    assert cache.summary("a") == cache.summary("a") == ("restoring 0 %", None)
    assert client.asked == ["a"]
    clock.now += FRESH_SECONDS
    cache.summary("a")
    assert client.asked == ["a", "a"]


def test_service_that_does_not_answer_is_asked_once_for_all_volumes() -> None:
    cache, client, clock = make_cache()
    client.failure = ServiceUnavailableError("gone")
    assert {cache.summary(name) for name in "abc"} == {("state unknown", None)}
    assert client.asked == ["a"]
    clock.now += SILENCE_SECONDS
    client.failure = None
    assert cache.summary("b") == ("restoring 0 %", None)


def test_volume_that_the_service_does_not_know_silences_nobody_else() -> None:
    cache, client, _ = make_cache()
    client.failure = ReplyError("x", "unknown")
    assert cache.summary("a") == ("state unknown", None)
    client.failure = None
    assert cache.summary("b") == ("restoring 0 %", None)


def test_forgotten_status_is_read_anew() -> None:
    cache, client, _ = make_cache()
    cache.summary("a")
    cache.forget("a")
    cache.summary("a")
    assert client.asked == ["a", "a"]


def test_every_state_has_a_health() -> None:
    assert set(HEALTH) == set(VolumeState.__args__)  # type: ignore[attr-defined]


def test_jobs_that_run_are_told_with_how_far_they_are() -> None:
    cache, client, _ = make_cache()
    client.changes = {"verify": VERIFY, "state": "in_sync", "regions": {"total": 1, "current": 1}}
    assert cache.summary("a") == ("in sync, verify running 50 %, 2 regions differ", None)
    client.changes["verify"] = VERIFY | {"state": "done", "regions_differing": 0}
    cache.forget("a")
    assert cache.summary("a") == ("in sync", True)
    merge = make_status("a")["merge"] | {"state": "running", "rate_bytes_per_second": 5 << 20}
    client.changes = {"merge": merge | {"seconds_left": 61.0}}
    cache.forget("a")
    assert cache.summary("a") == ("restoring 0 %, merging 5 MiB/s, 1 min 1 s left", None)
