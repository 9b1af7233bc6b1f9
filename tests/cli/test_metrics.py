"""The exporter: what it tells, what it tells without a service, and what is built on its names."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tcmu_restore.cli.metric_table import METRICS
from tcmu_restore.cli.metrics import parse_address
from tcmu_restore.errors import StateCorruptError
from tests.cli.command_line import CommandLine
from tests.service.fake_registry import HEAT, RESYNC, VERIFY, FakeRegistry, conditions, make_status

CONTRIB = Path(__file__).parents[2] / "contrib"

COUNTERS = (
    "reads_from_primary reads_from_backup reads_from_snapshot bytes_read_from_primary "
    "bytes_read_from_backup bytes_read_from_snapshot bytes_merged bytes_written regions_populated "
    "regions_merged regions_zeroed regions_host_written regions_skipped_current regions_resynced "
    "regions_repaired regions_verified regions_differing "
    "populates_dropped flushes map_commits intent_commits state_bytes_written"
)

TRAFFIC = {
    "latency_ms": 2.5,
    "read_bytes": 7,
    "written_bytes": 8,
    "retried_commands": 9,
    "failed_commands": 10,
    "session_losses": 11,
    "read_latency_ms": 12.5,
    "read_rate_bytes_per_second": 13.0,
    "asked_first": True,
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def volume(registry: FakeRegistry) -> dict[str, Any]:
    """A volume whose status says all that a status can say."""
    status = make_status("a", conditions=conditions("degraded", "restoring"), armed_zones=5)
    status["backup"] |= TRAFFIC | {"reachable": False}
    status["snapshot"] = {"source": "/s", "reachable": True, "reason": ""} | TRAFFIC
    status["resync"] = RESYNC
    status["verify"] = VERIFY
    status["heat"] = HEAT
    status["state_file"] = {"path": "/a.db", "error": ""}
    status["bulk_link"] = {"state": "unknown", "reason": "", "take_down": "x"}
    status["counters"] = dict.fromkeys(COUNTERS.split(), 3)
    registry.volumes["a"] = status
    return status


def parse(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"tcmu_restore_{name}", frozenset(labels.items())]


def test_numbers_are_the_status(command_line: CommandLine, volume: dict[str, Any]) -> None:
    outcome = command_line("metrics")
    assert outcome.status == 0, outcome
    found = parse(outcome.out)
    assert value(found, "up") == 1
    holding = {
        dict(labels)["condition"]
        for (name, labels), number in found.items()
        if name == "tcmu_restore_condition" and number
    }
    assert holding == {"degraded", "restoring"}
    assert value(found, "condition", volume="a", condition="in_sync") == 0
    assert value(found, "regions", volume="a", kind="lost") == volume["regions"]["lost"]
    assert value(found, "source_reachable", volume="a", source="backup") == 0
    assert value(found, "source_latency_seconds", volume="a", source="snapshot") == 0.0025
    assert value(found, "source_session_losses_total", volume="a", source="backup") == 11
    assert value(found, "resync_state", volume="a", state="running") == 1
    assert value(found, "resync_left_bytes", volume="a") == RESYNC["bytes_left"]
    assert value(found, "verify_state", volume="a", state="running") == 1
    assert value(found, "verify_differing_regions", volume="a") == 2
    assert value(found, "hot_current_bytes", volume="a") == HEAT["hot_bytes_current"]
    assert value(found, "read_bytes_total", volume="a", source="snapshot") == 3
    assert value(found, "kept_regions_total", volume="a", how="populated") == 3


def test_every_metric_has_a_sample_a_meaning_and_a_unit_where_it_needs_one(
    command_line: CommandLine, volume: dict[str, Any]
) -> None:
    names = {name for name, _ in parse(command_line("metrics").out)}
    assert names == {metric.full_name for metric in METRICS} | {"tcmu_restore_up"}
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.help.endswith(".")
        assert not metric.name.endswith("_total")


def test_closed_and_damaged_volumes_hide_no_others(
    command_line: CommandLine, registry: FakeRegistry, volume: dict[str, Any]
) -> None:
    registry.volumes["b"] = {"volume": "b", "state": "closed", "advice": "Serve it."}
    found = parse(command_line("metrics").out)
    assert value(found, "condition", volume="b", condition="closed") == 1
    assert value(found, "condition", volume="a", condition="closed") == 0
    assert ("tcmu_restore_regions", frozenset({("volume", "b"), ("kind", "lost")})) not in found
    registry.failures["status"] = StateCorruptError("/x.db", "a bad page")
    outcome = command_line("metrics")
    assert outcome.status == 0
    assert value(parse(outcome.out), "condition", volume="a", condition="closed") == 1


def test_textfile_is_whole_readable_and_has_no_leftovers(
    command_line: CommandLine, volume: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "text" / "tcmu_restore.prom"
    path.parent.mkdir()
    path.write_text("old")
    assert command_line("metrics", "--textfile", str(path)).status == 0
    assert value(parse(path.read_text()), "up") == 1
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR


def test_textfile_without_a_service_says_so_and_so_does_the_status(
    command_line: CommandLine, tmp_path: Path
) -> None:
    command_line.bus_address = f"unix:path={tmp_path}/nothing"
    path = tmp_path / "tcmu_restore.prom"
    outcome = command_line("metrics", "--textfile", str(path))
    assert outcome.status == 3
    assert parse(path.read_text()) == {("tcmu_restore_up", frozenset()): 0.0}


def test_places_that_cannot_be_used_are_one_sentence(
    command_line: CommandLine, tmp_path: Path
) -> None:
    for arguments in (("--textfile", f"{tmp_path}/none/x"), ("--listen", "203.0.113.1:1")):
        outcome = command_line("metrics", *arguments)
        assert outcome.status == 1
        assert "The metrics cannot be offered at" in outcome.out + outcome.err
    assert command_line("metrics", "--textfile", "x", "--listen", "y").status == 2
    assert command_line("metrics", "--listen", "nonsense").status == 2


def test_address_forms() -> None:
    assert parse_address("127.0.0.1:9101") == ("127.0.0.1", 9101)
    assert parse_address("[::1]:0") == ("::1", 0)
    for text in ("9101", ":9101", "a:", "a:b", "a:70000"):
        with pytest.raises(click.UsageError):
            parse_address(text)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("command_line")
def test_every_scrape_reads_anew_until_ctrl_c(
    bus_address: str, registry: FakeRegistry, volume: dict[str, Any]
) -> None:
    code = "from tcmu_restore.cli.main import main; main()"
    options = ["--bus-address", bus_address, "metrics", "--listen", "127.0.0.1:0"]
    command = [sys.executable, "-u", "-c", code, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = re.search(r"http://\S+/metrics", process.stdout.readline())
            assert url is not None
            for latency in (1.0, 2.0):
                volume["backup"]["latency_ms"] = latency
                with urllib.request.urlopen(url[0], timeout=10) as reply:
                    found = parse(reply.read().decode())
                name = "source_latency_seconds"
                assert value(found, name, volume="a", source="backup") == latency / 1000
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


# --- what is built on the names -----------------------------------------------------------


def expressions() -> list[str]:
    dashboard = json.loads((CONTRIB / "grafana" / "tcmu-restore.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = (CONTRIB / "prometheus" / "alerts.yml").read_text()
    return [*found, *re.findall(r"expr: (?:>-)?((?:.*\n)(?: {10}.*\n)*)", alerts)]


def test_dashboard_and_alerts_use_only_names_and_labels_that_there_are(
    command_line: CommandLine, volume: dict[str, Any]
) -> None:
    found = parse(command_line("metrics").out)
    names = {name for name, _ in found}
    labels = {(name, *label) for name, pairs in found for label in pairs}
    used = expressions()
    assert len(used) > 20
    for expression in used:
        assert re.findall(r"tcmu_restore_\w+", expression), expression
        for name, selector in re.findall(r"(tcmu_restore_\w+)(?:\{([^}]*)\})?", expression):
            assert name in names, expression
            for label, operator, words in re.findall(r'(\w+)(=~?)"([^"]*)"', selector):
                for word in words.split("|") if operator == "=~" else [words]:
                    assert word == "$volume" or (name, label, word) in labels, expression


def test_alerts_cover_what_nobody_may_miss() -> None:
    alerts = (CONTRIB / "prometheus" / "alerts.yml").read_text()
    for word in ("outdated", "failed", "diskless", "degraded", "state_full", "fenced"):
        assert f'condition="{word}"' in alerts
    assert "tcmu_restore_resynced_regions_total" in alerts
