"""Each verb against the real service on a bus of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tcmu_restore.errors import LinkCommandError, StateCorruptError, VolumeInUseError
from tests.cli.command_line import CommandLine
from tests.cli.fake_lio import FakeLio
from tests.service.fake_registry import SIZE, FakeRegistry, conditions, make_status
from tests.service.private_bus import service_thread

CREATE = ("create", "vol0", "--primary", "/dev/p", "--backup", "iscsi://b/iqn.a/0")


def test_create_defines_the_volume_makes_its_backstore_and_says_what_is_next(
    command_line: CommandLine, registry: FakeRegistry, lio: FakeLio
) -> None:
    options = ("--credentials", "/etc/c", "--mirror", "async")
    outcome = command_line(*CREATE, *options)
    assert outcome.status == 0, outcome
    assert registry.settings["vol0"] == {
        "primary": "/dev/p",
        "backup": "iscsi://b/iqn.a/0",
        "credentials": "/etc/c",
        "mirror": "async",
        "link": {},
    }
    made = lio.objects["vol0"]
    assert made.parameters == {
        "config": "restore/vol0",
        "size": SIZE,
        "hw_max_sectors": 8192,
        "control": "max_data_area_mb=256",
    }
    assert made.attributes == {"cmd_time_out": 0}
    assert outcome.out.splitlines()[-2:] == [
        "targetcli /iscsi/IQN/tpg1/luns create /backstores/user:restore/vol0",
        "targetcli saveconfig",
    ]


def test_create_without_rtslib_prints_the_lines_that_make_the_backstore(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    command_line.lio = None
    outcome = command_line(*CREATE)
    assert outcome.status == 0
    assert "vol0" in registry.volumes
    assert f"create name=vol0 size={SIZE} cfgstring=vol0 hw_max_sectors=8192" in outcome.out
    assert "set attribute cmd_time_out=0" in outcome.out


def test_create_with_large_blocks_tells_the_kernel(
    command_line: CommandLine,
    registry: FakeRegistry,
    lio: FakeLio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        registry, "status", lambda name: make_status(name, state="closed", block_size=4096)
    )
    assert command_line(*CREATE).status == 0
    parameters = lio.objects["vol0"].parameters
    assert parameters["control"] == "max_data_area_mb=256,hw_block_size=4096"
    assert parameters["hw_max_sectors"] == 1024


def test_create_that_lio_refuses_leaves_nothing(
    command_line: CommandLine, registry: FakeRegistry, lio: FakeLio
) -> None:
    lio.refuse = "no such handler."
    outcome = command_line(*CREATE)
    assert outcome.status == 1
    assert registry.volumes == {}
    assert outcome.out + outcome.err == (
        "tcmu-restore: The LIO backstore of 'vol0' cannot be made: no such handler. "
        "The definition was removed again; nothing was changed. The log of tcmu-runner says more.\n"
    )


def test_create_whose_timeout_cannot_be_disabled_leaves_nothing(
    command_line: CommandLine, registry: FakeRegistry, lio: FakeLio
) -> None:
    lio.refuse_attribute = "[Errno 22] Invalid argument"
    outcome = command_line(*CREATE)
    assert outcome.status == 1
    assert "cmd_time_out cannot be set" in outcome.out + outcome.err
    assert lio.objects == {}
    assert registry.volumes == {}


def test_create_whose_definition_stays_says_how_to_remove_it(
    command_line: CommandLine, registry: FakeRegistry, lio: FakeLio
) -> None:
    lio.refuse = "no"
    registry.failures["delete"] = VolumeInUseError("vol0")
    outcome = command_line(*CREATE)
    assert "remove it with: tcmu-restore delete vol0" in outcome.out + outcome.err
    assert "nothing was changed. The log" not in outcome.out


def test_text_that_the_bus_cannot_carry_is_refused_in_one_sentence(
    command_line: CommandLine,
) -> None:
    outcome = command_line("status", "vol\udcff")
    assert outcome.status == 2
    assert outcome.out + outcome.err == (
        "tcmu-restore: argument='vol\\udcff' cannot be used: it is not UTF-8. "
        "Nothing was changed.\n"
    )


def test_create_twice_is_refused(command_line: CommandLine) -> None:
    assert command_line(*CREATE).status == 0
    outcome = command_line(*CREATE)
    assert outcome.status == 2
    assert "exists already" in outcome.out + outcome.err


def test_create_mirrors_in_step_unless_told_otherwise(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    assert command_line(*CREATE).status == 0
    assert registry.settings["vol0"]["mirror"] == "sync"
    assert command_line("create", "v", *CREATE[2:], "--mirror", "lazy").status == 2
    assert "v" not in registry.volumes


def test_create_without_a_backup_is_a_usage_error(command_line: CommandLine) -> None:
    assert command_line("create", "vol0", "--primary", "/dev/p").status == 2


LIVE_LINK = (
    *("--portal", "h1", "--portal", "h2:3261", "--interface", "eth1", "--sessions", "4"),
    *("--source-address", "192.0.2.1", "--header-digest", "--rate-max", "5k"),
)


def test_create_takes_the_settings_of_the_live_link(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    outcome = command_line(*CREATE, *LIVE_LINK)
    assert outcome.status == 0, outcome
    assert registry.settings["vol0"]["link"] == {
        "portals": ["h1", "h2:3261"],
        "interface": "eth1",
        "sessions": 4,
        "source_address": "192.0.2.1",
        "header_digest": True,
        "rate_max": 5120,
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--interface", "a/b"), "it is not the name of a network interface"),
        (("--interface", ""), "it is not the name of a network interface"),
        (("--sessions", "0"), "it must be a number from 1 to 16"),
        (("--sessions", "two"), "'two' is not a number"),
        (("--sessions", "-1"), "'-1' is not a number"),
        (("--sessions", "4294967296"), "'4294967296' is not a number"),
        (("--source-address", "backup.example.org"), "it is not an IP address"),
        (("--portal", "h") * 9, "there may be 8 at most"),
        (("--portal", "h:0"), "the port is not between 1 and 65535"),
        (("--rate-max", "0"), "rate_max=0 cannot be used"),
        (("--rate-max", "5kB"), "'5kB' is not a number of bytes"),
        (("--rate-max", str(2**64)), "is larger than any disk"),
        (("--link-up", "/bin/true"), "No such option"),
    ],
)
def test_create_with_a_bad_link_is_refused_in_one_sentence(
    command_line: CommandLine,
    registry: FakeRegistry,
    lio: FakeLio,
    options: tuple[str, ...],
    said: str,
) -> None:
    outcome = command_line(*CREATE, *options)
    assert outcome.status == 2
    text = outcome.out + outcome.err
    assert said in text
    assert len([line for line in text.splitlines() if "rror:" in line or "cannot" in line]) == 1
    assert registry.volumes == {}
    assert lio.objects == {}


def test_attach_takes_the_settings_of_the_bulk_link(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a")
    outcome = command_line(
        *("attach-snapshot", "a", "iscsi://s/iqn.a/0", "--portal", "h1", "--portal", "h2:3261"),
        *("--interface", "eth1", "--source-address", "192.0.2.1", "--sessions", "4"),
        *("--header-digest", "--rate-max", "5000", "--link-timeout", "90"),
        *("--link-up", "/sbin/ip link set 'odd name' up", "--link-down", "/bin/true"),
    )
    assert outcome.status == 0, outcome
    assert registry.calls[0] == (
        *("attach", "a", "iscsi://s/iqn.a/0", "", "portals=['h1', 'h2:3261']", "interface=eth1"),
        *("source_address=192.0.2.1", "sessions=4", "header_digest=True", "rate_max=5000"),
        "link_up=['/sbin/ip', 'link', 'set', 'odd name', 'up']",
        *("link_down=['/bin/true']", "link_timeout_seconds=90"),
    )


def test_link_command_with_an_open_quote_is_refused(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    outcome = command_line("attach-snapshot", "a", "/dev/s", "--link-up", "/bin/a 'b")
    assert outcome.status == 2
    assert "No closing quotation" in outcome.out + outcome.err
    assert registry.calls == []


def test_link_down_takes_the_bulk_link_down(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a")
    outcome = command_line("link", "down", "a")
    assert outcome.status == 0
    assert outcome.out == "The bulk link is down.\n"
    registry.failures["link_down"] = LinkCommandError("/bin/x", "failed with status 1")
    outcome = command_line("link", "down", "a")
    assert outcome.status == 4
    assert "The link command /bin/x failed with status 1. " in outcome.out + outcome.err


def test_delete_list_attach_and_detach(command_line: CommandLine, registry: FakeRegistry) -> None:
    registry.volumes = {"b": make_status("b"), "a": make_status("a")}
    assert command_line("list").out == "a\nb\n"
    attached = command_line("attach-snapshot", "a", "/dev/s", "--credentials", "/f")
    assert attached.out == "Attached. Copy it with: tcmu-restore merge start a --wait\n"
    assert ("attach", "a", "/dev/s", "/f") in registry.calls
    selected = ("--extent", "1M:64k", "--extent", "0:512")
    assert command_line("attach-snapshot", "a", "/dev/s", *selected).status == 0
    assert command_line("attach-snapshot", "a", "/dev/s", "--extent", "1M").status == 2
    assert command_line("prepare-snapshot", "a").out == (
        "Take the snapshot on the backup host now. Then use it with:\n"
        "tcmu-restore attach-snapshot a SNAPSHOT\n"
    )
    assert registry.calls[-2:] == [  # nothing of the one that was refused
        ("attach", "a", "/dev/s", "", "[(1048576, 65536), (0, 512)]"),
        ("prepare_snapshot", "a"),
    ]
    assert command_line("detach-snapshot", "a").status == 0
    assert registry.volumes["a"]["snapshot"] is None
    assert command_line("delete", "a").status == 0
    assert list(registry.volumes) == ["b"]


def test_status_of_one_volume_fits_one_screen_and_ends_with_the_advice(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a", advice="Do [this] next.")
    outcome = command_line("status", "a")
    lines = outcome.out.splitlines()
    assert len(lines) < 24
    assert lines[-1] == "Do [this] next."
    assert "3 reads from backup (12 KiB)" in outcome.out
    assert "iscsi://backup/iqn.a/0 (reachable, 0.5 ms)" in outcome.out


def test_status_shows_every_condition_and_the_command_that_gives_a_disk_back(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    path = f"/dev/disk/by-id/{'x' * 60}"
    registry.volumes["a"] = make_status(
        "a",
        state="outdated",
        conditions=conditions("outdated", "diskless", "resyncing", "restoring", "in_doubt"),
        primary={"path": path, "state": "failed", "reason": "EIO", "returned": True},
        outdated_extents=[[0, 4096]],
        resync={
            "state": "paused",
            "reason": "",
            "bytes_left": 4096,
            "rate_bytes_per_second": 0,
            "seconds_left": None,
        },
        mirror="async",
    )
    lines = command_line("status", "a").out.splitlines()
    assert len(lines) < 24
    assert lines[-1].endswith(f"tcmu-restore replace-primary a --primary {path}")  # on one line
    assert "diskless: What to do when diskless." in lines
    words = [line.split() for line in lines]
    assert ["state", "outdated,", "diskless,", "resyncing,", "restoring,", "in", "doubt"] in words
    assert ["resync", "paused,", "4", "KiB", "left"] in words


def test_status_of_all_volumes_is_a_table(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    several = make_status("a", conditions=conditions("degraded", "restoring"))
    registry.volumes = {"a": several, "b": make_status("b", state="in_sync")}
    lines = command_line("status").out.splitlines()
    assert any("a" in line and "degraded, restoring" in line for line in lines)
    assert any("b" in line and "in sync" in line for line in lines)


def test_status_of_all_volumes_is_not_hidden_by_one_whose_files_are_damaged(
    command_line: CommandLine, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.volumes = {"a": make_status("a"), "b": make_status("b")}
    damage = StateCorruptError("/s/b.db", "a bad page")

    def status(name: str) -> dict[str, Any]:
        if name == "b":
            raise damage
        return registry.volumes[name]

    monkeypatch.setattr(registry, "status", status)
    listed = json.loads(command_line("status", "--json").out)
    assert listed[1] == {"volume": "b", "state": "closed", "advice": str(damage)}
    outcome = command_line("status")
    assert outcome.status == 0
    assert any("b" in line and "closed" in line for line in outcome.out.splitlines())
    assert command_line("status", "b").status == 5


def test_status_of_all_volumes_stops_at_what_is_no_matter_of_files(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes = {"a": make_status("a")}
    registry.failures["status"] = ZeroDivisionError()
    assert command_line("status").status == 1


def test_status_of_a_closed_volume_is_short(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = {"volume": "a", "state": "closed", "advice": "Serve it."}
    words = command_line("status", "a").out.split()
    assert words == ["volume", "a", "state", "closed", "Serve", "it."]
    assert "closed" in command_line("status").out


def test_status_without_volumes_says_how_to_make_one(command_line: CommandLine) -> None:
    assert "There are no volumes" in command_line("status").out


def test_status_as_json_is_the_service_s(command_line: CommandLine, registry: FakeRegistry) -> None:
    registry.volumes["a"] = make_status("a")
    assert json.loads(command_line("status", "a", "--json").out) == make_status("a")
    assert json.loads(command_line("status", "--json").out) == [make_status("a")]


def test_without_a_service_every_verb_says_so(bus_address: str) -> None:
    outcome = run_program(bus_address, "list")
    assert outcome.returncode == 3
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("tcmu-restore: The tcmu-restore service does not answer (")
    assert outcome.stderr.count("\n") == 1


def test_without_a_bus_every_verb_says_so(tmp_path: Path) -> None:
    outcome = run_program(f"unix:path={tmp_path}/none", "merge", "start", "a")
    assert outcome.returncode == 3
    assert "no message bus" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_caller_that_is_not_root_is_told_so(bus_address: str, registry: FakeRegistry) -> None:
    with service_thread(registry, bus_address, allowed_uids=()):
        outcome = run_program(bus_address, "list")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr == "tcmu-restore: Only root may use tcmu-restore; run it with sudo.\n"


def test_bus_address_may_be_an_option(bus_address: str, registry: FakeRegistry) -> None:
    registry.volumes["a"] = make_status("a")
    with service_thread(registry, bus_address):
        outcome = run_program("unix:path=/nowhere", "--bus-address", bus_address, "list")
    assert outcome.stdout == "a\n"


def run_program(bus_address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from tcmu_restore.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env=os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": bus_address},
        capture_output=True,
        text=True,
        check=False,
    )


def test_install_handler_prints_what_was_done(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install = ModuleType("tcmu_restore.handler.install")
    vars(install).update(
        find_places=lambda folder: folder,
        install_handler=lambda places: [f"installed {places}"],
        uninstall_handler=lambda places: [f"removed {places}"],
    )
    import tcmu_restore.handler  # noqa: PLC0415 - the verb imports it this late, too

    monkeypatch.setattr(tcmu_restore.handler, "install", install, raising=False)
    monkeypatch.setitem(sys.modules, install.__name__, install)
    folder = str(tmp_path)
    outcome = command_line("install-handler", "--directory", folder)
    assert (outcome.out + outcome.err).startswith("Building the handler; ")
    assert outcome.out.endswith(f"installed {folder}\n")
    assert command_line("uninstall-handler").out == "removed None\n"


@pytest.mark.parametrize("verb", [("status", "a"), ("status",), ("list",)])
def test_what_a_peer_says_moves_no_cursor(
    command_line: CommandLine, registry: FakeRegistry, verb: tuple[str, ...]
) -> None:
    hostile = "x\x1b[2J\x1b]0;title\x07\ny"
    status = make_status("a", advice=hostile)
    status["backup"] |= {"reachable": False, "reason": hostile}
    status["merge"] |= {"state": "running", "reason": hostile}
    status["shipped"] = [{"path": hostile, "taken": hostile, "problem": ""}]
    registry.volumes["a"] = status
    shown = command_line(*verb).out
    assert "\x1b[2J" not in shown
    assert "\x1b]" not in shown
    assert "\x07" not in shown
