"""Volume definitions: a good one, and everything that can be wrong with one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.core.mirroring import MirrorPolicy
from tcmu_restore.engine.definition import (
    Definition,
    PeerDefinition,
    load_definition,
    save_definition,
)
from tcmu_restore.engine.link_settings import (
    PORTALS_MAX,
    SESSIONS_MAX,
    LinkSettings,
    parse_link,
)
from tcmu_restore.errors import (
    BadDefinitionError,
    BadNameError,
    UnknownVolumeError,
    UserError,
    VolumeExistsError,
)

GOOD = 'primary = "/dev/vdb"\n[backup]\nurl = "iscsi://10.0.0.1/iqn.2026-11.org.example:b/0"\n'


def load(folder: Path, text: str) -> Definition:
    path = folder / "v.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load_definition(folder, "v")


def test_saved_definition_is_loaded_as_it_was(tmp_path: Path) -> None:
    definition = Definition(
        '/dev/"odd',
        PeerDefinition("iscsi://h/iqn.a.b:c/0", "/root/c", LinkSettings(header_digest=True)),
    )
    save_definition(tmp_path, "v", definition)
    assert (tmp_path / "v.toml").stat().st_mode & 0o777 == 0o600
    assert load_definition(tmp_path, "v") == definition
    with pytest.raises(VolumeExistsError):
        save_definition(tmp_path, "v", definition)


hosts = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)
portals = st.one_of(
    hosts,
    st.builds("{}:{}".format, hosts, st.integers(1, 65535)),
    st.builds("[{}]".format, st.ip_addresses(v=6)),
)
links = st.fixed_dictionaries(
    {},
    optional={
        "portals": st.lists(portals, max_size=PORTALS_MAX),
        "interface": st.from_regex(r"[^\s/:]{1,15}", fullmatch=True),
        "source_address": st.ip_addresses().map(str),
        "sessions": st.integers(1, SESSIONS_MAX),
        "header_digest": st.booleans(),
        "rate_max": st.integers(1, 1 << 62),
    },
)
peers = st.builds(
    PeerDefinition,
    url=st.text(),
    credentials=st.none() | st.text(),
    link=links.map(lambda raw: parse_link(raw, bulk=False)),
)


@given(st.builds(Definition, primary=st.text(), backup=peers, mirror=st.sampled_from(MirrorPolicy)))
def test_any_definition_is_loaded_as_it_was_saved(
    tmp_path_factory: pytest.TempPathFactory, definition: Definition
) -> None:
    folder = tmp_path_factory.mktemp("d")
    save_definition(folder, "v", definition)
    assert load_definition(folder, "v") == definition


def test_text_that_toml_escapes_otherwise_than_json_is_kept(tmp_path: Path) -> None:
    link = parse_link({"interface": "\x7f\N{GRINNING FACE}\x01"}, bulk=False)
    definition = Definition(
        "/\N{GRINNING FACE}/\x7f", PeerDefinition("iscsi://h/iqn.a/0", link=link)
    )
    save_definition(tmp_path, "v", definition)
    assert load_definition(tmp_path, "v") == definition


def test_options_are_taken(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD + "[options]\nmerge_depth = 3\n").options.merge_depth == 3


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("primary = ", "Invalid value"),
        (GOOD.replace("primary", "prim"), "'primary' is missing"),
        (GOOD.replace('"/dev/vdb"', "7"), "must be a str"),
        (GOOD + "more = 1\n", "unknown setting"),
        (GOOD + "[options]\nregion_size = 5000\n", "power of two"),
        (GOOD + "[options]\nregion_size = 512\n", "at least 4096"),
        (GOOD + "[options]\nmerge_depth = true\n", "positive int"),
        (GOOD + "[options]\nmerge_depth = 0\n", "positive int"),
        (GOOD + "[options]\nspeed = 1\n", "unknown setting"),
    ],
)
def test_bad_definitions_are_refused_with_a_reason(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(BadDefinitionError, match=match):
        load(tmp_path, text)


def test_a_readable_definition_is_refused(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    (tmp_path / "v.toml").chmod(0o644)
    with pytest.raises(BadDefinitionError, match="0600"):
        load_definition(tmp_path, "v")


@pytest.mark.parametrize("name", ["", "../etc", "a/b", "a b", "x" * 65, "é", "a\n"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadNameError):
        load_definition(tmp_path, name)


def test_an_unknown_volume_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownVolumeError, match="'v'"):
        load_definition(tmp_path, "v")


@given(st.text())
def test_any_text_is_a_definition_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.mktemp("d")
    path = folder / "v.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    path.chmod(0o600)
    with suppress(UserError):
        load_definition(folder, "v")
