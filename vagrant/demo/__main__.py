"""`python -m vagrant.demo [--output FOLDER]`: exit status 0 only if every promise held."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from vagrant import host
from vagrant.demo import story
from vagrant.demo.cast import THIN_DELAY_MS, THIN_RATE_BITS, VOLUME_SIZE, Cast, set_stage
from vagrant.demo.plot import draw
from vagrant.demo.report import Report
from vagrant.demo.samples import median_latency, parse_latencies, parse_samples
from vagrant.demo.screen import Screen
from vagrant.errors import LabError
from vagrant.lab import Lab
from vagrant.scene import IQN

INTERRUPTED = 130  # what a shell reports for Ctrl-C


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="python -m vagrant.demo", description=__doc__)
    default = host.REPOSITORY / "build" / "demo"
    parser.add_argument("--output", type=Path, default=default, metavar="FOLDER")
    folder: Path = parser.parse_args().output
    screen = Screen()
    try:
        return _run(screen, folder)
    except LabError as error:
        screen.say(f"error: {error}", "bold red")
        return 1
    except KeyboardInterrupt:
        screen.say("interrupted; the machines and their files are gone", "bold red")
        return INTERRUPTED


def _run(screen: Screen, folder: Path) -> int:
    start = time.monotonic()
    screen.title("The lab: three machines, built on this host")
    host.require_root()
    _install_tools(screen)
    with Lab(report=lambda line: screen.say(line.strip())) as lab:
        lab.boot()
        screen.title("The stage: a server whose disk dies")
        cast = set_stage(lab, screen)
        try:
            findings = _play(cast)
        finally:
            cast.save_logs(folder / "logs")
        report = _judge(cast, findings, time.monotonic() - start)
        folder.mkdir(parents=True, exist_ok=True)
        report.write(folder / "report.json")
        _draw(cast, folder / "timeline.png", report)
    return _conclude(screen, folder, report)


def _install_tools(screen: Screen) -> None:
    """Install what the lab needs of this host, and say what that was."""
    screen.say("host tools: what is missing is installed with apt-get")
    output = host.run("bash", host.HERE / "install-host.sh")
    found = re.findall(r"^Setting up (\S+)", output, re.MULTILINE)
    screen.say(f"installed {len(found)} packages: {' '.join(found)}" if found else "none missing")


def _play(cast: Cast) -> story.Findings:
    findings = story.Findings()
    portal = f"{cast.lab.primary.address('front')}:3260"
    device = f"/dev/disk/by-path/ip-{portal}-iscsi-{IQN}{cast.scene.name}-lun-0"
    cast.screen.title("The restore: the LUN comes back at once")
    story.bring_lun_back(cast, findings)
    cast.screen.title("The work goes on while the disk fills")
    story.work_and_merge(cast, findings, device)
    cast.screen.title("The proof: the backup is cut off")
    story.close_and_check(cast, findings, device)
    story.cut_and_compare(cast, findings, device)
    return findings


def _judge(cast: Cast, findings: story.Findings, seconds: float) -> Report:
    after, before = findings.links_after, findings.links_before
    ends = [status["counters"] for status in (findings.status_before_cut, findings.status)]
    remote = [end["reads_from_backup"] + end["reads_from_snapshot"] for end in ends]
    latencies = parse_latencies(cast.latency.log.entries, cast.initiator_clock)
    return Report(
        lun_online_seconds=findings.online_seconds,
        create_seconds=findings.create_seconds,
        status=findings.status,
        state_before_cut=findings.status_before_cut["state"],
        bytes_on_thin_link=after["thin"] - before["thin"],
        bytes_on_bulk_link=after["bulk"] - before["bulk"],
        fsck=findings.fsck,
        sha256_primary=findings.digests["primary"],
        sha256_backup=findings.digests["backup"],
        sha256_initiator=findings.digests["initiator"],
        remote_reads_after_cut=remote[1] - remote[0],
        files_verified_after_cut=findings.files_verified_after_cut,
        failed_reads=sum(item.milliseconds is None for item in latencies),
        seconds=seconds,
        details=_details(cast, findings),
    )


def _details(cast: Cast, findings: story.Findings) -> dict[str, object]:
    times = cast.events.times
    latencies = parse_latencies(cast.latency.log.entries, cast.initiator_clock)
    spans = {
        "before_snapshot": (times[story.SERVED], times["snapshot attached"]),
        "during_merge": (times["merge started"], times["merge done"]),
        "after_merge": (times["merge done"], times[story.CUT]),
        "after_cut": (times[story.CUT], float("inf")),
    }
    return {
        "volume_bytes": VOLUME_SIZE,
        "thin_link": {"bits_per_second": THIN_RATE_BITS, "round_trip_ms": 2 * THIN_DELAY_MS},
        "clock_error_seconds": round(cast.clock_error, 3),
        "events_seconds": cast.events.relative_to("create"),
        "read_latency_ms_median": {
            name: median_latency(latencies, *span) for name, span in spans.items()
        },
        "files": findings.files,
        "files_verified_after_cut": findings.files_verified_after_cut,
        "steps_seconds": {name: round(seconds, 1) for name, seconds in cast.lab.timer.steps},
        "counters": findings.status["counters"],
    }


def _draw(cast: Cast, path: Path, report: Report) -> None:
    draw(
        path,
        latencies=parse_latencies(cast.latency.log.entries, cast.initiator_clock),
        samples=parse_samples(cast.status.log.entries, cast.primary_clock),
        events=cast.events.relative_to("create"),
        origin=cast.events.times["create"],
        title=f"The LUN is back {report.lun_online_seconds:.1f} s after `create`; "
        "its new disk fills while it is in use",
    )


def _conclude(screen: Screen, folder: Path, report: Report) -> int:
    written = report.as_dict()
    screen.title("Verdict")
    for name, value in written.items():
        if name not in ("details", "verdict"):
            screen.say(f"{name}: {value}")
    for sentence in report.problems():
        screen.say(sentence, "bold red")
    good = not report.problems()
    screen.say(f"verdict: {written['verdict']}", "bold green" if good else "bold red")
    screen.say(f"{folder / 'report.json'} and {folder / 'timeline.png'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
