"""The nodes in a real targetcli shell, talking to the real service."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tcmu_restore.errors import WrongStateError
from tests.cli.fake_lio import FakeLio
from tests.service.fake_registry import SIZE, FakeRegistry, make_status
from tests.targetcli_ext.conftest import Shell

# targetcli's, configshell's and pyparsing's own
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")

NODE = "/backstores/user:restore"
BACKUP = "iscsi://[fd00::1]:3260/iqn.2024-01.org.example:b0/0"
CREATE = f"{NODE} create name=vol0 primary=/dev/vdb backup={BACKUP}"


@pytest.fixture
def execution_error(ui: ModuleType) -> type[Exception]:
    cls: type[Exception] = ui.ExecutionError
    return cls


def test_only_our_node_is_replaced(shell: Shell, ui: ModuleType) -> None:
    assert type(shell.node(NODE)).__name__ == "UIRestoreBackstore"
    assert isinstance(shell.node(NODE), ui.UIUserBackedBackstore)
    assert type(shell.node("/backstores/user:other")) is ui.UIUserBackedBackstore
    shell("/backstores refresh")
    assert type(shell.node(NODE)).__name__ == "UIRestoreBackstore"
    assert [child.name for child in shell.node("/backstores").children].count("user:restore") == 1


def test_installing_twice_wraps_once(shell: Shell, ui: ModuleType) -> None:
    from targetcli_ext import patch  # noqa: PLC0415 - not before the fixture has installed it

    wrapped = ui.UIBackstores.refresh
    patch.install(ui)
    assert ui.UIBackstores.refresh is wrapped


@pytest.mark.usefixtures("service")
def test_create_with_a_backup_makes_volume_backstore_and_node(
    shell: Shell, registry: FakeRegistry, lio: FakeLio
) -> None:
    shell(f"{CREATE} credentials=/etc/c header_digest=true mirror=async")
    assert registry.settings["vol0"] == {
        "primary": "/dev/vdb",
        "backup": BACKUP,
        "credentials": "/etc/c",
        "mirror": "async",
        "link": {"header_digest": True},
    }
    assert lio.objects["vol0"].attributes == {"cmd_time_out": 0}
    assert lio.objects["vol0"].size == SIZE
    assert type(shell.node(f"{NODE}/vol0")).__name__ == "UIRestoreStorageObject"


LIVE_LINK = (
    "portals=192.0.2.7,[fd00::7]:3261 interface=eth0.5 source_address=fd00::2 sessions=4 "
    "header_digest=true rate_max=5k"
)


@pytest.mark.usefixtures("service")
def test_create_takes_the_settings_of_the_live_link(shell: Shell, registry: FakeRegistry) -> None:
    shell(f"{CREATE} {LIVE_LINK}")
    assert registry.settings["vol0"]["link"] == {
        "portals": ["192.0.2.7", "[fd00::7]:3261"],
        "interface": "eth0.5",
        "source_address": "fd00::2",
        "sessions": 4,
        "header_digest": True,
        "rate_max": 5120,
    }


BAD_LINKS = [
    ("interface=a/b", "it is not the name of a network interface"),
    ("sessions=0", "it must be a number from 1 to 16"),
    ("sessions=two", "sessions: 'two' is not a number"),
    ("source_address=backup.example.org", "it is not an IP address"),
    ("portals=" + ",".join("h" * 9), "there may be 8 at most"),
    ("portals=h,", "portals: its value breaks off"),
    ('interface="eth1" sessions=4', "interface: its value breaks off"),
    ("rate_max=5kB", "rate_max: '5kB' is not a number of bytes"),
    ("header_digest=maybe", "not true|false"),
]


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("arguments", "sentence"), BAD_LINKS)
def test_create_with_a_bad_link_is_refused_in_one_sentence(
    shell: Shell,
    registry: FakeRegistry,
    lio: FakeLio,
    execution_error: type[Exception],
    arguments: str,
    sentence: str,
) -> None:
    with pytest.raises(execution_error, match=re.escape(sentence)) as caught:
        shell(f"{CREATE} {arguments}")
    assert "\n" not in str(caught.value)
    assert registry.volumes == {}
    assert lio.objects == {}


@pytest.mark.parametrize(
    "arguments",
    [
        "vol0 10G vol0",
        "name=vol0 size=10G cfgstring=vol0",
        "vol0 10G vol0 some-wwn 1024 control=max_data_area_mb=64",
    ],
)
def test_plain_create_works_as_before(shell: Shell, lio: FakeLio, arguments: str) -> None:
    shell(f"{NODE} create {arguments}")
    made = lio.objects["vol0"]
    assert (made.config, made.size) == ("restore/vol0", 10 * 1024**3)
    assert made.attributes == {"cmd_time_out": 0}
    if "1024" in arguments:
        assert made.parameters["hw_max_sectors"] == "1024"
        assert made.parameters["control"] == "max_data_area_mb=64"
    assert type(shell.node(f"{NODE}/vol0")).__name__ == "UIRestoreStorageObject"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("name=v primary=/dev/vdb", "Both are needed"),
        ("name=v backup=iscsi://a/b/0", "Both are needed"),
        ("name=v size=1G primary=/dev/vdb backup=iscsi://a/b/0", "not both"),
        ("name=v size=1G cfgstring=v interface=eth1", "not both"),
        ("name=v size=1G cfgstring=v mirror=async", "not both"),
        ("name=v header_digest=false", "Both are needed"),
        ("name=v size=1G", "Give primary and backup, or size and cfgstring"),
        ("name=v", "Give primary and backup, or size and cfgstring"),
    ],
)
def test_create_with_half_of_what_it_needs_is_refused(
    shell: Shell, execution_error: type[Exception], arguments: str, sentence: str
) -> None:
    with pytest.raises(execution_error, match=sentence):
        shell(f"{NODE} create {arguments}")


@pytest.mark.usefixtures("service")
def test_create_that_lio_refuses_leaves_nothing(
    shell: Shell, registry: FakeRegistry, lio: FakeLio, execution_error: type[Exception]
) -> None:
    lio.refuse = "no such handler"
    with pytest.raises(execution_error, match=r"no such handler\. The definition was removed"):
        shell(CREATE)
    assert registry.volumes == {}


def test_plain_create_whose_timeout_cannot_be_disabled_leaves_nothing(
    shell: Shell, lio: FakeLio, execution_error: type[Exception]
) -> None:
    lio.refuse_attribute = "[Errno 22] Invalid argument"
    with pytest.raises(execution_error, match="cmd_time_out cannot be set"):
        shell(f"{NODE} create vol0 10G vol0")
    assert lio.objects == {}
    assert not shell.node(NODE).children


@pytest.mark.usefixtures("service")
def test_error_of_the_service_is_one_sentence_with_its_cause(
    shell: Shell, registry: FakeRegistry, execution_error: type[Exception]
) -> None:
    registry.volumes["vol0"] = make_status("vol0")
    with pytest.raises(execution_error, match="exists already") as caught:
        shell(CREATE)
    assert type(caught.value.__cause__).__name__ == "ReplyError"


def test_without_the_service_the_tree_is_quick_and_verbs_say_why(
    shell: Shell, execution_error: type[Exception]
) -> None:
    shell(f"{NODE} create vol0 10G vol0")
    assert shell.node(f"{NODE}/vol0").summary() == (
        "vol0 (10.0GiB) activated, state unknown",
        None,
    )
    with pytest.raises(execution_error, match="service does not answer"):
        shell(f"{NODE}/vol0 status")


@pytest.fixture
def volume(shell: Shell, service: None, registry: FakeRegistry) -> Shell:
    shell(CREATE)
    return shell


def test_summary_shows_state_and_percent(volume: Shell, registry: FakeRegistry) -> None:
    registry.volumes["vol0"]["regions"]["current"] = SIZE // 4096 * 42 // 100 + 1
    summary = volume.node(f"{NODE}/vol0").summary()
    assert summary == ("vol0 (1.0GiB) activated, restoring 42 %", None)


@pytest.mark.parametrize(
    ("state", "health"), [("in_sync", True), ("degraded", False), ("closed", None)]
)
def test_summary_has_the_state_s_health(
    volume: Shell, registry: FakeRegistry, state: str, health: bool | None
) -> None:
    registry.volumes["vol0"]["state"] = state
    words, shown = volume.node(f"{NODE}/vol0").summary()
    assert words.endswith(state.replace("_", " "))
    assert shown is health


def test_ls_shows_the_tree(volume: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    volume.shell.con._stdout = sys.stdout
    volume(f"{NODE} ls")
    assert "restoring 0 %" in capsys.readouterr().out


def test_snapshot_and_merge_verbs_reach_the_service(volume: Shell, registry: FakeRegistry) -> None:
    path = f"{NODE}/vol0"
    volume(f"{path} attach_snapshot snapshot={BACKUP} credentials=/etc/c")
    assert ("attach", "vol0", BACKUP, "/etc/c") in registry.calls
    volume(f"{path} attach_snapshot /dev/s extents=1M:64k,0:512")
    assert registry.calls[-1] == ("attach", "vol0", "/dev/s", "", "[(1048576, 65536), (0, 512)]")
    actions = ("start", "pause", "resume", "cancel")
    for action in actions:
        volume(f"{path} merge action={action}")
    volume(f"{path} merge start")
    asked = [call for call in registry.calls if call[0].startswith("merge_")]
    assert asked == [(f"merge_{action}", "vol0") for action in (*actions, "start")]
    volume(f"{path} detach_snapshot")
    assert registry.volumes["vol0"]["snapshot"] is None


def test_attach_takes_the_settings_of_the_bulk_link(volume: Shell, registry: FakeRegistry) -> None:
    path = f"{NODE}/vol0"
    volume(
        f"{path} attach_snapshot {BACKUP} {LIVE_LINK} link_timeout=90 "
        r"link_up=/sbin/ip,link,set,eth1,alias,a\,b link_down=/bin/true"
    )
    volume(f"{path} attach_snapshot {BACKUP} header_digest=false")
    many, one = (call for call in registry.calls if call[0] == "attach")
    assert many == (
        *("attach", "vol0", BACKUP, "", "portals=['192.0.2.7', '[fd00::7]:3261']"),
        *("interface=eth0.5", "source_address=fd00::2", "sessions=4", "header_digest=True"),
        *("rate_max=5120", "link_up=['/sbin/ip', 'link', 'set', 'eth1', 'alias', 'a,b']"),
        *("link_down=['/bin/true']", "link_timeout_seconds=90"),
    )
    assert one == ("attach", "vol0", BACKUP, "", "header_digest=False")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        *BAD_LINKS,
        ('link_up="/sbin/ip link set eth1 up" link_down=/bin/true', "link_up: its value breaks"),
        ("link_up=/sbin/ip,link", "link_up and link_down go together"),
        ("link_up=bin/a link_down=/bin/b", "the absolute path of a program"),
        ("link_timeout=301", "it must be a number from 1 to 300"),
        ("link_timeout=1s", "'1s' is not a number"),
    ],
)
def test_attach_with_a_bad_link_is_refused_in_one_sentence(
    volume: Shell,
    registry: FakeRegistry,
    execution_error: type[Exception],
    arguments: str,
    sentence: str,
) -> None:
    with pytest.raises(execution_error, match=re.escape(sentence)) as caught:
        volume(f"{NODE}/vol0 attach_snapshot {BACKUP} {arguments}")
    assert "\n" not in str(caught.value)
    assert registry.volumes["vol0"]["snapshot"] is None


def test_summary_after_a_change_is_fresh(volume: Shell, registry: FakeRegistry) -> None:
    node = volume.node(f"{NODE}/vol0")
    assert "restoring" in node.summary()[0]
    registry.volumes["vol0"]["state"] = "in_sync"
    volume(f"{NODE}/vol0 attach_snapshot /dev/s")
    assert "in sync" in node.summary()[0]


def test_merge_with_an_unknown_action_names_the_known_ones(
    volume: Shell, execution_error: type[Exception]
) -> None:
    with pytest.raises(execution_error, match="start, pause, resume, cancel"):
        volume(f"{NODE}/vol0 merge explode")


def test_verification_is_begun_with_the_side_that_is_right(
    volume: Shell, registry: FakeRegistry, execution_error: type[Exception]
) -> None:
    path = f"{NODE}/vol0"
    volume(f"{path} verify start")
    assert registry.calls[-1] == ("verify", "vol0", "start", "none")
    volume(f"{path} verify start repair=backup")
    assert registry.calls[-1] == ("verify", "vol0", "start", "backup")
    for action in ("pause", "resume", "cancel"):
        volume(f"{path} verify {action}")
        assert registry.calls[-1] == ("verify", "vol0", action, "none")
    for wrong in ("verify explode", "verify start repair=both", "verify pause repair=backup"):
        with pytest.raises(execution_error):
            volume(f"{path} {wrong}")
    assert volume.node(path).ui_complete_verify({}, "pri", "repair") == ["primary "]


def test_status_has_a_bar_and_the_advice(
    volume: Shell, registry: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.volumes["vol0"]["merge"] |= {
        "state": "running",
        "bytes_done": SIZE // 2,
        "bytes_total": SIZE,
    }
    volume.shell.con._stdout = sys.stdout
    volume(f"{NODE}/vol0 status")
    out = capsys.readouterr().out
    assert "[############------------] 50 %" in out
    assert "time left unknown" in out
    assert out.rstrip().endswith("Attach a snapshot and start the merge.")


def test_delete_keeps_the_definition_unless_told_otherwise(
    volume: Shell, registry: FakeRegistry, lio: FakeLio
) -> None:
    volume(f"{NODE} delete vol0")
    assert lio.objects == {}
    assert "vol0" in registry.volumes
    volume(f"{NODE} create vol0 {SIZE} vol0")
    volume(f"{NODE} delete vol0 forget=true")
    assert registry.volumes == {}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("create", "EXAMPLE"),
        ("delete", "forget=true"),
        ("merge", "ACTIONS"),
        ("attach_snapshot", "SNAPSHOT"),
        ("detach_snapshot", "can be removed"),
        ("status", "what\nto do next"),
        ("prepare_snapshot", "before each snapshot"),
        ("resync", "ACTIONS"),
        ("replace_primary", "Initiators notice nothing"),
        ("declare_lost", "without confirm=true"),
        ("accept_outdated", "backup's older bytes count"),
        ("rebuild_state", "without confirm=true"),
        ("restore_from", "the same command\nwithout parameters goes on"),
    ],
)
def test_help_is_written_for_users(
    volume: Shell, capsys: pytest.CaptureFixture[str], command: str, words: str
) -> None:
    path = NODE if command in {"create", "delete"} else f"{NODE}/vol0"
    volume.shell.con._stdout = sys.stdout
    volume(f"{path} help {command}")
    out = capsys.readouterr().out
    assert " ".join(words.split()).lower() in " ".join(out.split()).lower()


def test_completion_offers_actions_paths_and_the_scheme(volume: Shell, tmp_path: Path) -> None:
    (tmp_path / "disk.img").touch()
    node = volume.node(f"{NODE}/vol0")
    backstore: Any = volume.node(NODE)
    assert node.ui_complete_merge({}, "", "action") == ["start", "pause", "resume", "cancel"]
    assert node.ui_complete_merge({}, "p", "action") == ["pause "]
    assert node.ui_complete_merge({}, "p", "other") == []
    assert node.ui_complete_attach_snapshot({}, "is", "snapshot") == ["iscsi://"]
    path = f"{tmp_path}/disk"
    assert node.ui_complete_attach_snapshot({}, path, "snapshot") == [f"{path}.img "]
    assert backstore.ui_complete_create({}, path, "primary") == [f"{path}.img "]
    assert backstore.ui_complete_create({}, path, "credentials") == [f"{path}.img "]
    assert backstore.ui_complete_create({}, "i", "backup") == ["iscsi://"]
    assert node.ui_complete_attach_snapshot({}, "f", "header_digest") == ["false "]
    assert node.ui_complete_attach_snapshot({}, "e", "interface") == []
    assert backstore.ui_complete_create({}, "t", "header_digest") == ["true "]
    assert backstore.ui_complete_create({}, "s", "mirror") == ["sync", "strict"]
    assert node.ui_complete_replace_primary({}, path, "primary") == [f"{path}.img "]
    assert node.ui_complete_replace_primary({}, path, "x") == []
    assert node.ui_complete_resync({}, "", "action") == ["pause", "resume"]
    assert node.ui_complete_resync({}, "", "x") == []
    for complete in ("declare_lost", "accept_outdated", "rebuild_state"):
        offered = getattr(node, f"ui_complete_{complete}")
        assert offered({}, "t", "confirm") == ["true "]
        assert offered({}, "", "offset") == []
    assert backstore.ui_complete_create({}, "", "primary") == []
    assert backstore.ui_complete_create({}, "x", "name") == []


class RestoreRuns:
    """Notes what is asked of a restore."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.error: BaseException | None = None

    def restore(self, volume: str, settings: Any) -> None:
        self.calls.append((volume, settings))
        if self.error is not None:
            raise self.error

    def abort(self, volume: str, *, forget: bool) -> bool:
        self.calls.append((volume, forget))
        return True

    def is_unfinished(self, volume: str) -> bool:
        return self.error is not None


def test_restore_from_hands_everything_on(
    volume: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from targetcli_ext import restore_node  # noqa: PLC0415 - as above

    runs = RestoreRuns()
    monkeypatch.setattr(restore_node.RestoreFromCommand, "_run", staticmethod(lambda _: runs))
    path = f"{NODE}/vol0 restore_from"
    volume(f"{path} host=backup1 port=2222 key=/k extents=0:4k,1M:64k partition=2 size=1G")
    name, settings = runs.calls[-1]
    assert (name, settings.host.address, settings.host.port) == ("vol0", "backup1", 2222)
    assert (settings.host.user, settings.host.key) == ("root", "/k")
    assert settings.request.extents == ((0, 4096), (1 << 20, 65536))
    assert (settings.request.partition, settings.request.size) == (2, 1 << 30)
    volume(path)
    assert runs.calls[-1] == ("vol0", None)
    volume(f"{path} abort=true forget=true")
    assert runs.calls[-1] == ("vol0", True)
    runs.error = WrongStateError("vol0", "attach a snapshot", "one is attached already")
    volume.shell.con._stdout = sys.stdout
    with pytest.raises(Exception, match="one is attached already"):
        volume(path)
    assert "--abort" in capsys.readouterr().out
