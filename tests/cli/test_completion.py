"""What Tab offers: click's protocol, spoken as the shells' own scripts speak it."""

from __future__ import annotations

import subprocess

import click
import pytest
from click.testing import CliRunner

from tcmu_restore.cli.completion import SHELLS, VolumeName
from tcmu_restore.cli.main import cli
from tests.cli.command_line import CommandLine
from tests.service.fake_registry import FakeRegistry


def offered(line: str, bus_address: str | None) -> list[str]:
    words = line.split(" ")
    environment = {
        "_TCMU_RESTORE_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "DBUS_SYSTEM_BUS_ADDRESS": bus_address,
    }
    result = CliRunner().invoke(cli, [], prog_name="tcmu-restore", env=environment)
    return [item.partition(",")[2] for item in result.output.split()]


def test_verbs_and_options_are_offered() -> None:
    assert offered("tcmu-restore sta", None) == ["state", "status"]
    assert offered("tcmu-restore merge st", None) == ["start"]
    assert offered("tcmu-restore declare-lost --of", None) == ["--offset"]
    assert offered("tcmu-restore create v --s", None) == ["--source-address", "--sessions"]


def test_names_come_from_the_service(command_line: CommandLine, registry: FakeRegistry) -> None:
    for name in ("vm01", "vm02", "db"):
        made = command_line("create", name, "--primary", "/p", "--backup", "iscsi://b/iqn.a/0")
        assert made.status == 0, made.out
    assert set(offered("tcmu-restore status vm", command_line.bus_address)) == {"vm01", "vm02"}
    assert offered("tcmu-restore merge start d", command_line.bus_address) == ["db"]
    assert offered("tcmu-restore create v", command_line.bus_address) == []


def test_nothing_is_offered_without_a_service() -> None:
    assert offered("tcmu-restore status v", "unix:path=/nowhere") == []


def test_every_volume_completes() -> None:
    def missing(group: click.Group) -> list[str]:
        found = []
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                found += missing(command)
            for parameter in command.params:
                is_volume = isinstance(parameter, click.Argument) and parameter.name == "name"
                if is_volume and not isinstance(parameter.type, VolumeName):
                    found.append(name)
        return found

    assert missing(cli) == ["create"]


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_the_shells_own(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert f"{shell}_complete" in result.output


def test_bash_takes_its_script() -> None:
    script = CliRunner().invoke(cli, ["completion", "bash"]).output
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
