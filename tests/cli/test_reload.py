"""A volume that was skipped at boot is neither forgotten nor left out: saved, shown, reloaded."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcmu_restore.cli import lio_restore, lio_status, reload, saved_config
from tcmu_restore.cli.errors import SavedConfigError
from tcmu_restore.cli.saved_config import find_volume, keep_skipped, read_config, skipped_volumes
from tests.cli.command_line import CommandLine
from tests.cli.fake_rtslib import FakeKernel
from tests.service.fake_registry import FakeRegistry, make_status

TARGET = "iqn.2026-11.org.example:t"
NODE = "iqn.2026-11.org.example:host"


CLIENT: Any = SimpleNamespace(status=lambda name: closed(name))  # noqa: PLW0108 - defined below


def volume_object(name: str = "a") -> dict[str, Any]:
    return {
        "plugin": "user",
        "name": name,
        "config": f"restore/{name}",
        "size": 1 << 30,
        "wwn": "1234",
        "attributes": {"cmd_time_out": 0},
        "alua_tpgs": [],
    }


def config_with_volume() -> dict[str, Any]:
    kernel = FakeKernel()
    make_loaded(kernel)
    return kernel.dump()


def make_loaded(kernel: FakeKernel) -> None:
    rtslib = kernel.module()
    group = kernel.add_group(TARGET, 1, NODE)
    made = lio_restore.create_object(rtslib, volume_object())
    lun = rtslib.LUN(group, 0, made, "alias")
    rtslib.MappedLUN(group.node_acls[0], 7, lun, True, "alias-m")


def make_skipped(kernel: FakeKernel) -> None:
    kernel.add_group(TARGET, 1, NODE)


@pytest.fixture
def save_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "saveconfig.json"
    path.write_text(json.dumps(config_with_volume()))
    monkeypatch.setattr(saved_config, "SAVE_FILES", (path,))
    definitions = tmp_path / "volumes"
    definitions.mkdir()
    (definitions / "a.toml").touch()
    monkeypatch.setattr(lio_restore, "defined_volumes", lambda: ["a"])
    return path


def test_what_a_boot_skipped_is_kept_in_the_next_configuration() -> None:
    saved = config_with_volume()
    kernel = FakeKernel()
    make_skipped(kernel)
    current = kernel.dump()
    assert skipped_volumes(current, saved, ["a"]) == ["a"]
    assert keep_skipped(current, saved, ["a"]) == saved
    assert current != saved  # the argument is left alone


def test_an_undefined_or_loaded_volume_is_not_skipped() -> None:
    saved = config_with_volume()
    assert skipped_volumes(saved, saved, ["a"]) == []
    assert skipped_volumes({}, saved, ["b"]) == []


def test_a_lun_number_given_to_something_else_stays_there() -> None:
    saved = config_with_volume()
    kernel = FakeKernel()
    group = kernel.add_group(TARGET, 1, NODE)
    rtslib = kernel.module()
    other = rtslib.tcm.so_mapping["block"](name="other")
    rtslib.LUN(group, 0, other, None)
    kept = keep_skipped(kernel.dump(), saved, ["a"])
    assert [item["name"] for item in kept["storage_objects"]] == ["other", "a"]
    luns = kept["targets"][0]["tpgs"][0]["luns"]
    assert [lun["storage_object"] for lun in luns] == ["/backstores/block/other"]


def test_reload_makes_what_was_saved(save_file: Path) -> None:
    kernel = FakeKernel()
    make_skipped(kernel)
    done = reload.reload_volume(CLIENT, kernel.module(), "a")
    assert kernel.dump() == read_config(save_file)
    assert str(save_file) in done[0]
    log = list(kernel.log)
    assert log.index("a cmd_time_out=0") < log.index("lun 0 user")
    reload.reload_volume(CLIENT, kernel.module(), "a")
    assert kernel.log == log  # a second time changes nothing


def test_reload_finds_what_plain_targetcli_overwrote(save_file: Path) -> None:
    backup = save_file.parent / "backup"
    backup.mkdir()
    copy = backup / "saveconfig-20261123-01:00:00-json.gz"
    copy.write_bytes(gzip.compress(save_file.read_bytes()))
    (backup / "saveconfig-20261123-02:00:00-json.gz").write_bytes(b"damaged")
    kernel = FakeKernel()
    make_skipped(kernel)
    save_file.write_text(json.dumps(kernel.dump()))
    assert str(copy) in reload.reload_volume(CLIENT, kernel.module(), "a")[0]
    assert read_config(save_file) == kernel.dump() == config_with_volume()


def test_an_acl_that_was_removed_is_not_made_again(save_file: Path) -> None:
    kernel = FakeKernel()
    kernel.add_group(TARGET, 1)
    reload.reload_volume(CLIENT, kernel.module(), "a")
    assert [lun.lun for lun in kernel.groups[0].luns] == [0]
    assert kernel.groups[0].node_acls == []


@pytest.fixture
def kernel(command_line: CommandLine) -> FakeKernel:
    kernel = FakeKernel()
    command_line.rtslib = kernel.module()
    return kernel


@pytest.mark.usefixtures("save_file")
def test_reload_without_a_name_brings_all_back(
    command_line: CommandLine, registry: FakeRegistry, kernel: FakeKernel
) -> None:
    registry.volumes["a"] = closed("a")
    make_skipped(kernel)
    assert "a: the backstore was made" in command_line("reload").out
    assert "Every saved volume is loaded." in command_line("reload").out


@pytest.mark.usefixtures("save_file")
def test_bad_input_is_one_sentence(
    command_line: CommandLine, registry: FakeRegistry, kernel: FakeKernel, save_file: Path
) -> None:
    assert command_line("reload", "nobody").status == 2
    registry.volumes["b"] = closed("b")
    outcome = command_line("reload", "b")
    assert outcome.status == 5
    assert outcome.out.startswith("tcmu-restore: No saved LIO configuration has a backstore of 'b'")
    registry.volumes["a"] = closed("a")
    kernel.refuse["user"] = "No such device"
    make_skipped(kernel)
    outcome = command_line("reload", "a")
    assert "LIO refused a: No such device." in outcome.out
    assert kernel.objects == []
    damage = {"path": "/s/a.db", "error": "The state file /s/a.db is damaged: x."}
    registry.volumes["a"] = closed("a") | {"state_file": damage}
    outcome = command_line("reload", "a")
    assert outcome.status == 5
    assert "Cannot reload on 'a': The state file /s/a.db is damaged: x." in outcome.out
    registry.volumes["a"] = closed("a")
    save_file.write_text("{")
    outcome = command_line("reload", "a")
    assert outcome.status == 1
    assert f"The saved LIO configuration {save_file} cannot be used" in outcome.out
    assert "Traceback" not in outcome.out


def test_status_names_the_command(
    command_line: CommandLine, registry: FakeRegistry, save_file: Path
) -> None:
    registry.volumes["a"] = closed("a")
    status = json.loads(command_line("status", "a", "--json").out)
    assert status["lio"] == {"state": "skipped", "saved_in": str(save_file)}
    assert "tcmu-restore reload a" in command_line("status", "a").out


def test_a_loaded_backstore_that_is_not_served_is_told_apart(
    save_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "core" / "user_0" / "a").mkdir(parents=True)
    status: Any = closed("a")
    found = lio_status.with_lio(status, saved=save_file, core=tmp_path / "core")
    assert found["lio"]["state"] == "unserved"
    served: Any = make_status("a")
    assert "lio" not in lio_status.with_lio(served, saved=save_file, core=tmp_path / "core")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["storage_objects", "plugin", "config", "name", "targets", "tpgs", "luns", "index"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON)
def test_a_hostile_configuration_ends_in_one_sentence(tmp_path_factory: Any, value: Any) -> None:
    path = tmp_path_factory.mktemp("hostile") / "saveconfig.json"
    path.write_text(json.dumps(value))
    with suppress(SavedConfigError):
        assert find_volume("a", path) is None


def closed(name: str) -> dict[str, Any]:
    return {"volume": name, "state": "closed", "advice": "It is not being served."}
