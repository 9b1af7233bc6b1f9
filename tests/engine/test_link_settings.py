"""Settings of a link are hostile input: each bad one is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tcmu_restore.engine.definition import load_definition
from tcmu_restore.engine.link_settings import LinkSettings, parse_link
from tcmu_restore.errors import BadDefinitionError, BadSettingError

GOOD: dict[str, Any] = {
    "portals": ["192.0.2.7", "[2001:db8::1]:3261", "backup.example.org:3262"],
    "interface": "ppp0",
    "source_address": "2001:0db8::2",
    "sessions": 4,
    "header_digest": True,
    "rate_max": 5000,
    "link_up": ["/usr/sbin/ip", "link", "set", "eth1", "up"],
    "link_down": ["/usr/sbin/ip", "link", "set", "eth1", "down"],
    "link_timeout_seconds": 90,
}


def test_all_settings_are_taken() -> None:
    link = parse_link(GOOD, bulk=True)
    assert link == LinkSettings(
        portals=tuple(GOOD["portals"]),
        interface="ppp0",
        source_address="2001:db8::2",
        sessions=4,
        header_digest=True,
        rate_max=5000,
        link_up=tuple(GOOD["link_up"]),
        link_down=tuple(GOOD["link_down"]),
        link_timeout_seconds=90,
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"portals": "192.0.2.7"}, "portals=… cannot be used: it must be a list of texts"),
        ({"portals": ["h:0"]}, "the port is not between 1 and 65535"),
        ({"portals": ["bad host"]}, "neither a name nor an address"),
        ({"portals": ["h"] * 9}, "there may be 8 at most"),
        ({"interface": "a/b"}, "not the name of a network interface"),
        ({"interface": "x" * 16}, "not the name of a network interface"),
        ({"source_address": "backup.example.org"}, "it is not an IP address"),
        ({"source_address": "fe80::1%eth0"}, "it is not an IP address"),
        ({"sessions": 0}, "a number from 1 to 16"),
        ({"sessions": True}, "a number from 1 to 16"),
        ({"header_digest": "yes"}, "it must be true or false"),
        ({"rate_max": 0}, "rate_max=0 cannot be used"),
        ({"link_up": []}, "its first word must be the absolute path of a program"),
        ({"link_up": ["ip", "link"]}, "its first word must be the absolute path of a program"),
        ({"link_up": "/sbin/ip link"}, "it must be a list of texts"),
        ({"link_up": ["/sbin/ip", "\0"]}, "it holds a NUL character"),
        ({"link_up": ["/sbin/ip"] * 65}, "it is too long"),
        ({"link_timeout_seconds": 301}, "a number from 1 to 300"),
        ({"password": "secret-word"}, "a link has no such setting"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettingError) as caught:
        parse_link(GOOD | changes, bulk=True)
    text = str(caught.value)
    assert said in text
    assert "secret-word" not in text
    assert text.endswith("Nothing was changed.")
    assert "\n" not in text


def test_one_command_without_the_other_is_refused() -> None:
    for name in ("link_up", "link_down"):
        with pytest.raises(BadSettingError, match="go together"):
            parse_link({name: GOOD[name]}, bulk=True)


def test_live_link_has_no_commands() -> None:
    with pytest.raises(BadSettingError, match="no such setting"):
        parse_link(GOOD, bulk=False)


def write_definition(folder: Path, text: str) -> None:
    path = folder / "v.toml"
    path.write_text(f'primary = "/dev/x"\n[backup]\nurl = "iscsi://b/iqn.a/0"\n{text}')
    path.chmod(0o600)


def test_definition_has_a_live_and_a_bulk_link(tmp_path: Path) -> None:
    write_definition(
        tmp_path,
        'portals = ["192.0.2.7"]\nsource_address = "192.0.2.1"\nsessions = 2\nrate_max = 4000\n'
        "header_digest = true\n"
        '[snapshot_link]\ninterface = "eth1"\nlink_up = ["/bin/a"]\nlink_down = ["/bin/b"]\n',
    )
    definition = load_definition(tmp_path, "v")
    assert definition.backup.link == LinkSettings(
        portals=("192.0.2.7",),
        source_address="192.0.2.1",
        sessions=2,
        rate_max=4000,
        header_digest=True,
    )
    bulk = parse_link(definition.snapshot_link, bulk=True)
    assert bulk == LinkSettings(interface="eth1", link_up=("/bin/a",), link_down=("/bin/b",))


@pytest.mark.parametrize(
    "text",
    [
        'link_up = ["/bin/a"]\nlink_down = ["/bin/b"]\n',
        'portals = "192.0.2.7"\n',
        '[snapshot_link]\nurl = "iscsi://b/iqn.a/0"\n',
        '[snapshot_link]\nlink_up = ["/bin/a"]\n',
    ],
)
def test_definition_with_a_bad_link_is_refused(tmp_path: Path, text: str) -> None:
    write_definition(tmp_path, text)
    with pytest.raises(BadDefinitionError, match="cannot be used"):
        load_definition(tmp_path, "v")
