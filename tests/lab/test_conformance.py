"""A restored LUN passes whatever tcmu-runner's stock handler passes, on the same kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vagrant import host
from vagrant.lab import Lab
from vagrant.scene import IQN, Scene

from .conformance import (
    ConformanceReport,
    run_conformance,
    serve_fileio,
    serve_qcow,
    stop_serving,
)
from .pattern import MIB

pytestmark = pytest.mark.lab

REPORT = host.REPOSITORY / "build" / "lab" / "iscsi-test-cu.json"


def measure_restore(lab: Lab) -> ConformanceReport:
    """A volume of which everything is lost at the beginning."""
    scene = Scene(lab, "cu", 64 * MIB)
    scene.make_backup()
    scene.add_blank_disk()
    scene.create_volume()
    scene.export_volume()
    report = run_conformance(lab.initiator, lab.primary.address("front"), f"{IQN}cu")
    lab.primary.run("grep -q '\\[CRIT\\].*fenced' /var/log/tcmu-runner.log && exit 1; exit 0")
    status = scene.status()
    assert status["state"] in ("restoring", "in_sync"), status
    return report


def as_document(report: ConformanceReport) -> dict[str, object]:
    return {
        "passed": len(report.passed),
        "failed": sorted(report.failed),
        "skipped": len(report.skipped),
    }


def write_report(path: Path, reports: dict[str, ConformanceReport]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {name: as_document(report) for name, report in reports.items()}
    path.write_text(json.dumps(document, indent=2) + "\n")


def test_restore_passes_what_the_stock_handler_passes(lab: Lab) -> None:
    portal = lab.primary.address("front")
    reports = {"restore": measure_restore(lab)}
    for name, serve in (("qcow", serve_qcow), ("fileio", serve_fileio)):
        iqn = serve(lab.primary)
        reports[name] = run_conformance(lab.initiator, portal, iqn)
        stop_serving(lab.primary, iqn)
    write_report(REPORT, reports)
    for name, report in reports.items():
        print(f"{name}: {report}")
    assert reports["qcow"].passed - reports["restore"].passed == set()
