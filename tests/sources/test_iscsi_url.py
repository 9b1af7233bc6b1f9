"""Names of LUNs, from people and from enemies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_restore.errors import BadUrlError
from tcmu_restore.sources.iscsi_url import IscsiUrl, parse_iscsi_url

IQN = "iqn.2003-01.org.linux-iscsi.host.x8664:sn.0123456789ab"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"iscsi://10.0.0.1/{IQN}/0", IscsiUrl("10.0.0.1", 3260, IQN, 0)),
        (f"iscsi://10.0.0.1:860/{IQN}/255", IscsiUrl("10.0.0.1", 860, IQN, 255)),
        (f"iscsi://[::1]/{IQN}/1", IscsiUrl("::1", 3260, IQN, 1)),
        (f"iscsi://[FD00::0:1]:3261/{IQN}/16383", IscsiUrl("fd00::1", 3261, IQN, 16383)),
        (f"iscsi://backup-1.lan/{IQN}/7", IscsiUrl("backup-1.lan", 3260, IQN, 7)),
        ("iscsi://h/eui.02004567A425678D/0", IscsiUrl("h", 3260, "eui.02004567A425678D", 0)),
    ],
)
def test_good_url_is_parsed(text: str, expected: IscsiUrl) -> None:
    assert parse_iscsi_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "iscsi://",
        f"iscsi:///{IQN}/0",
        f"iscsi://host/{IQN}",
        f"iscsi://host/{IQN}/",
        f"iscsi://host/{IQN}/-1",
        f"iscsi://host/{IQN}/16384",
        f"iscsi://host/{IQN}/1?target_user=x",
        f"iscsi://host/{IQN}/1/",
        f"iscsi://host/{IQN}/1\n",
        f"iscsi://host/{IQN}/\u0661",
        f"iscsi://host:0/{IQN}/1",
        f"iscsi://host:65536/{IQN}/1",
        f"iscsi://host:x/{IQN}/1",
        f"iscsi://::1/{IQN}/1",
        f"iscsi://[::1/{IQN}/1",
        f"iscsi://[::1%eth0]/{IQN}/1",
        f"iscsi://[nonsense]/{IQN}/1",
        f"iscsi://300.1.1.1/{IQN}/1",
        f"iscsi://-host/{IQN}/1",
        f"iscsi://ho st/{IQN}/1",
        "iscsi://host/disk/1",
        "iscsi://host/iqn./1",
        "iscsi://host/iqn.a b/1",
        f"iscsi://host/iqn.{'x' * 220}/1",
        f"iscsi://{'a' * 600}/{IQN}/1",
        f"iser://host/{IQN}/1",
        f"ISCSI://host/{IQN}/1",
    ],
)
def test_bad_url_is_refused(text: str) -> None:
    with pytest.raises(BadUrlError):
        parse_iscsi_url(text)


@pytest.mark.parametrize("login", ["user@", "user%secret@", "user:secret@", "a@b%secret@"])
def test_url_with_login_is_refused_and_not_repeated(login: str) -> None:
    with pytest.raises(BadUrlError, match="credentials file") as caught:
        parse_iscsi_url(f"iscsi://{login}host/{IQN}/0")
    assert "secret" not in str(caught.value)
    assert "user" not in str(caught.value).replace("user and password", "")


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for candidate in (text, f"iscsi://{text}/{IQN}/0", f"iscsi://host/{text}/0"):
        try:
            url = parse_iscsi_url(candidate)
        except BadUrlError:
            continue
        assert parse_iscsi_url(str(url)) == url
        assert str(url).isascii()
        assert str(url).isprintable()


@given(
    st.one_of(st.ip_addresses().map(str), st.from_regex(r"\A[a-z][a-z0-9]{0,20}\Z")),
    st.integers(1, 65535),
    st.integers(0, 16383),
)
def test_text_of_a_url_is_parsed_back(host: str, port: int, lun: int) -> None:
    url = IscsiUrl(host, port, IQN, lun)
    assert parse_iscsi_url(str(url)) == url
