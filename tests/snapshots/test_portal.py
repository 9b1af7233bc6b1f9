from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.errors import BadSettingError
from tcmu_restore.snapshots.portal import Portal, is_address_here, listening_portal, parse_portal

V4_ALL, V6_ALL = Portal("0.0.0.0", 3260), Portal("[::]", 3260)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1:3260"),
        ("192.0.2.1:3261", "192.0.2.1:3261"),
        ("[fd00::1]:3261", "[fd00::1]:3261"),
        ("[fd00::1]", "[fd00::1]:3260"),
        ("fd00:0::1", "[fd00::1]:3260"),
    ],
)
def test_portal_is_written_as_lio_writes_it(text: str, expected: str) -> None:
    assert str(parse_portal(text)) == expected
    assert parse_portal(expected) == parse_portal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "[fd00::1",
        "1.2.3",
        "a/b",
        "fe80::1%lo",
    ],
)
def test_what_is_no_portal_is_refused(text: str) -> None:
    with pytest.raises(BadSettingError):
        parse_portal(text)


@given(st.text())
def test_any_text_is_a_portal_or_refused(text: str) -> None:
    try:
        found = parse_portal(text)
    except BadSettingError:
        return
    assert parse_portal(str(found)) == found
    assert "/" not in str(found)


def test_port_that_is_listened_on_for_every_address_is_used() -> None:
    wanted, six = Portal("192.0.2.1", 3260), Portal("[fd00::1]", 3260)
    other = Portal("198.51.100.1", 3260)
    assert listening_portal(wanted, [other]) == wanted
    assert listening_portal(wanted, [other, V4_ALL]) == V4_ALL
    assert listening_portal(wanted, [V6_ALL]) == V6_ALL
    assert listening_portal(six, [V4_ALL]) == six
    assert listening_portal(six, [V6_ALL]) == V6_ALL
    assert listening_portal(Portal("192.0.2.1", 3261), [V4_ALL]) == Portal("192.0.2.1", 3261)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1", True), ("0.0.0.0", True), ("203.0.113.9", False), ("[2001:db8::9]", False)],
)
def test_address_of_another_host_is_told_from_one_of_this(text: str, expected: bool) -> None:
    assert is_address_here(parse_portal(text)) == expected
