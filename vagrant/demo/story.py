"""The main job: create, mount, work, merge, cut, compare. Each function is one chapter."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from vagrant.agent import Job
from vagrant.demo import scripts
from vagrant.demo.cast import Cast, helpers
from vagrant.demo.guest import wait_until
from vagrant.demo.report import summarize_fsck
from vagrant.demo.samples import Sample, local_share, parse_latencies, parse_samples
from vagrant.demo.screen import Snapshot
from vagrant.errors import MachineError
from vagrant.scene import IQN

ONLINE_TIMEOUT_SECONDS = 120.0
MERGE_TIMEOUT_SECONDS = 300.0
SHELL_TIMEOUT_SECONDS = 90.0
SYNC_TIMEOUT_SECONDS = 60.0
ALONE_SECONDS = 6.0  # of work before there is a snapshot
AFTER_SECONDS = 4.0  # of work after the merge
RANDOM_LOAD_SECONDS = 30
POLL_SECONDS = 0.7
SHARE_SECONDS = 3.0

CREATED, SERVED = "volume created", "LUN online"
CUT = "link cut"


@dataclass
class Findings:
    """What the chapters found out, for the report."""

    online_seconds: float = 0.0
    create_seconds: float | None = None
    links_before: dict[str, int] = field(default_factory=dict)
    links_after: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    fsck: str = ""
    status_before_cut: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    files_verified_after_cut: int = 0
    digests: dict[str, str] = field(default_factory=dict)


def bring_lun_back(cast: Cast, findings: Findings) -> None:
    """Create the volume in the running targetcli and wait for the initiator's first byte."""
    scene = cast.scene
    findings.links_before = read_links(cast)
    create = f"/backstores/user:restore create name={scene.name}"
    create += f" primary={scene.primary_disk} backup={scene.backup_url}"
    serve = f"/iscsi/{IQN}{scene.name}/tpg1/luns create /backstores/user:restore/{scene.name}"
    cast.screen.say(f"targetcli> {create}", "green")
    cast.screen.say(f"targetcli> {serve}", "green")
    typed = cast.shell.type(create, serve) - cast.primary_clock
    try:
        first_byte, _ = cast.latency.wait_until_online(ONLINE_TIMEOUT_SECONDS)
    except MachineError as error:
        raise MachineError("primary", f"{error}; targetcli:\n{cast.shell.output()}") from error
    cast.status.go()
    cast.events.note("create", typed)
    cast.events.note(SERVED, first_byte - cast.initiator_clock)
    findings.online_seconds = first_byte - cast.initiator_clock - typed
    created = find_line(cast.shell.output(), "Created volume")
    if created is not None:
        cast.events.note(CREATED, created - cast.primary_clock)
        findings.create_seconds = created - cast.primary_clock - typed
    cast.screen.say(
        f"the LUN is back, {findings.online_seconds:.1f} s after create was entered", "bold green"
    )


def work_and_merge(cast: Cast, findings: Findings, device: str) -> None:
    """Mount, work, and meanwhile snapshot, attach and merge."""
    initiator = cast.lab.initiator
    initiator.run(f"udevadm wait --timeout=30 {device}")
    initiator.run(scripts.mount(device))
    cast.events.note("mounted")
    jobs = [
        initiator.start_script(scripts.workload()),
        initiator.start_script(scripts.random_load(RANDOM_LOAD_SECONDS)),
    ]
    with cast.screen.live():
        _watch(cast, jobs, seconds=ALONE_SECONDS)
        _attach_snapshot(cast, jobs)
        cast.events.note("merge done", _watch_merge(cast, jobs))
        _watch(cast, jobs, seconds=AFTER_SECONDS)
        initiator.run(scripts.stop_workload())
        while any(job.is_running for job in jobs):
            _watch(cast, jobs, seconds=0)
    findings.files = json.loads(jobs[0].wait())
    jobs[1].wait()


def close_and_check(cast: Cast, findings: Findings, device: str) -> None:
    """Unmount, check the file system, and wait until both sides have everything."""
    with cast.screen.phase("sync, unmount, fsck"):
        said = cast.lab.initiator.run(scripts.check_file_system(device), timeout_seconds=180)
        status, _, output = said.partition("\n")
        findings.fsck = summarize_fsck(int(status), output)
        wait_until(
            lambda: read_samples(cast)[-1].state == "in_sync",
            "the mirror",
            timeout_seconds=SYNC_TIMEOUT_SECONDS,
        )
    findings.links_after = read_links(cast)
    findings.status_before_cut = cast.scene.status()


def cut_and_compare(cast: Cast, findings: Findings, device: str) -> None:
    """Cut the backup off, read everything again, and compare the three copies."""
    lab, scene = cast.lab, cast.scene
    lab.primary.cut("thin")
    cast.events.note(CUT)
    with cast.screen.phase("every file is verified from the primary alone"):
        verified = lab.initiator.run(scripts.verify_files(device), timeout_seconds=300)
        findings.files_verified_after_cut = int(verified)
    cast.latency.stop()
    cast.status.stop()
    with cast.screen.phase("SHA-256 of all three, in the machines"), helpers() as pool:
        backup = pool.submit(scene.digest, lab.backup, scene.backup_device)
        findings.digests["initiator"] = scene.digest(lab.initiator, device)
        findings.digests["primary"] = scene.digest(lab.primary, scene.primary_disk)
        findings.digests["backup"] = backup.result()
    findings.status = scene.status()
    for name, digest in findings.digests.items():
        cast.screen.say(f"{digest}  {name}")


def read_links(cast: Cast) -> dict[str, int]:
    """Return the bytes that the primary has sent and received on each link to the backup."""
    counters = {link: cast.lab.primary.read_counter(link) for link in ("thin", "bulk")}
    return {link: counter.received + counter.sent for link, counter in counters.items()}


def read_samples(cast: Cast) -> list[Sample]:
    """Return the watcher's samples so far; there is at least one."""
    while True:
        cast.status.log.read_new()
        samples = parse_samples(cast.status.log.entries, cast.primary_clock)
        if samples:
            return samples
        time.sleep(POLL_SECONDS)


def find_line(text: str, words: str) -> float | None:
    """Return the time before the first line with *words* in the shell's output."""
    for line in text.splitlines():
        if words in line:
            return float(line.split()[0])
    return None


def _attach_snapshot(cast: Cast, jobs: list[Job]) -> None:
    """Take a snapshot on the backup, attach it over the bulk link and start the merge."""
    cast.screen.say("a snapshot of the backup is taken and exported on the bulk link")
    with helpers() as pool:
        snapshot = pool.submit(cast.scene.take_snapshot)
        while not snapshot.done():
            _watch(cast, jobs, seconds=0)
        snapshot.result()
    node = f"/backstores/user:restore/{cast.scene.name}"
    commands = (f"{node} attach_snapshot {cast.scene.snapshot_url}", f"{node} merge start")
    for command in commands:
        cast.screen.say(f"targetcli> {command}", "green")
    cast.shell.type(*commands)
    for name, words in (("snapshot attached", "Attached."), ("merge started", "Merge: start")):
        cast.events.note(name, _wait_for_line(cast, jobs, words) - cast.primary_clock)


def _wait_for_line(cast: Cast, jobs: list[Job], words: str) -> float:
    """Show how things go until targetcli says *words*; return the primary's time of that."""
    end = time.monotonic() + SHELL_TIMEOUT_SECONDS
    while True:
        said = cast.shell.output()
        moment = find_line(said, words)
        if moment is not None:
            return moment
        if time.monotonic() > end:
            raise MachineError("primary", f"targetcli did not say {words!r}:\n{said}")
        _watch(cast, jobs, seconds=0)


def _watch_merge(cast: Cast, jobs: list[Job]) -> float:
    """Show the merge until it is done; return when that was seen."""
    end = time.monotonic() + MERGE_TIMEOUT_SECONDS
    while True:
        sample = _watch(cast, jobs, seconds=0)
        if sample.merge_state == "done":
            return next(item.time for item in read_samples(cast) if item.merge_state == "done")
        if time.monotonic() > end:
            raise MachineError("primary", f"the merge did not end: {sample.merge}")


def _watch(cast: Cast, jobs: list[Job], *, seconds: float) -> Sample:
    """Show how things go for a time, once at least; a workload that failed is an error."""
    end = time.monotonic() + seconds
    while True:
        samples = read_samples(cast)
        entries = cast.latency.log.read_new()
        latencies = parse_latencies(entries, cast.initiator_clock)
        files = json.loads(cast.lab.initiator.run(scripts.read_workload_counts()) or "{}")
        share = local_share(samples, SHARE_SECONDS)
        now = Snapshot(
            sample=samples[-1],
            share_percent=share[-1][1] if share else None,
            latency=latencies[-1] if latencies else None,
            files=files,
        )
        cast.screen.show(now)
        for job in jobs:
            if not job.is_running:
                job.wait()
        time.sleep(POLL_SECONDS)
        if time.monotonic() >= end:
            return samples[-1]
