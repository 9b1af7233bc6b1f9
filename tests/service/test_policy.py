"""The shipped policy files on a real bus: who may call the service, and who hears it."""

from __future__ import annotations

import asyncio
import grp
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tcmu_restore.handler.build_handler import HERE
from tcmu_restore.options import DBUS_GROUP, DBUS_MANAGER, DBUS_NAME, DBUS_PATH
from tests.service.fake_registry import FakeRegistry, make_status
from tests.service.private_bus import private_bus, service_thread

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv") or not shutil.which("dbus-monitor"),
    reason="needs root, to be nobody for a moment, and dbus-monitor",
)

NOBODY = 65534
MEMBERS = "daemon"
"""Stands for the group, which this host need not have."""

SYSTEM = """  <policy context="default">
    <allow user="*"/><deny own="*"/><deny send_type="method_call"/>
    <allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
"""
"""What a system bus allows by default. Source: dbus' own system.conf."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    for name in ("dbus_policy.conf", "dbus_policy_group.conf"):
        text = (HERE / name).read_text().replace(f'"{DBUS_GROUP}"', f'"{MEMBERS}"')
        (tmp_path / name).write_text(text)
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    includes = "".join(
        f"  <include>{tmp_path / name}</include>\n"
        for name in ("dbus_policy.conf", "dbus_policy_group.conf")
    )
    with private_bus(tmp_path, policy=SYSTEM + includes) as address:
        (tmp_path / "bus").chmod(0o777)
        yield address


@dataclass(frozen=True)
class Service:
    address: str
    loop: asyncio.AbstractEventLoop
    registry: FakeRegistry
    states: Iterator[str] = field(default_factory=lambda: iter(("degraded", "in_sync", "failed")))

    def list_volumes(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        command = [*words, "dbus-send", f"--bus={self.address}", "--print-reply"]
        command += [f"--dest={DBUS_NAME}", DBUS_PATH, f"{DBUS_MANAGER}.ListVolumes"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    def change_state(self) -> None:
        """Let the service send its signal; on return the bus has it."""
        state = next(self.states)
        self.loop.call_soon_threadsafe(self.registry.on_change, "v", state)
        assert self.list_volumes([]).returncode == 0  # answered later, over the same connection

    def send_other_signal(self) -> None:
        command = ["dbus-send", f"--bus={self.address}", "--type=signal", "/end", "test.End.Now"]
        subprocess.run(command, check=True)


@pytest.fixture
def service(address: str) -> Iterator[Service]:
    registry = FakeRegistry()
    registry.volumes["v"] = make_status("v")
    with service_thread(registry, address, allowed_uids={0}, allowed_group=MEMBERS) as loop:
        yield Service(address, loop, registry)


def somebody(*, member: bool) -> list[str]:
    group = str(grp.getgrnam(MEMBERS).gr_gid)
    groups = f"--groups={group}" if member else "--clear-groups"
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", groups]


def test_root_and_the_group_may_call_and_nobody_else(service: Service) -> None:
    assert '"v"' in service.list_volumes([]).stdout
    assert '"v"' in service.list_volumes(somebody(member=True)).stdout
    refused = service.list_volumes(somebody(member=False))
    assert refused.returncode != 0
    assert "AccessDenied" in refused.stderr
    assert service.registry.calls.count(("list",)) == 2


def test_signals_are_heard_by_root_and_the_group_and_nobody_else(service: Service) -> None:
    assert "StateChanged" in heard([], service)
    assert "StateChanged" in heard(somebody(member=True), service)
    assert "StateChanged" not in heard(somebody(member=False), service)


def heard(words: list[str], service: Service) -> str:
    """What the bus lets one hear of a change of state."""
    command = [*words, "dbus-monitor", "--address", service.address, "type='signal'"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        timer = threading.Timer(20, process.kill)
        timer.start()
        text = process.stdout.readline()  # it listens: that it came is the first thing it hears
        service.change_state()
        service.send_other_signal()
        for line in process.stdout:
            text += line
            if "test.End" in line:
                break
        timer.cancel()
        process.kill()
    assert "test.End" in text
    return text
