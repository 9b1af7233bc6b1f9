"""Config strings."""

from __future__ import annotations

import pytest

from tcmu_restore.errors import BadNameError
from tcmu_restore.handler.volume_name import volume_name


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("restore/vol0", "vol0"),
        ("restore/a-B_9", "a-B_9"),
        ("restore/vol0;tcmur_cmd_time_out=5;", "vol0"),
        ("restore/" + "x" * 64, "x" * 64),
    ],
)
def test_name_of_a_config_string(config: str, name: str) -> None:
    assert volume_name(config) == name


@pytest.mark.parametrize(
    "config",
    [
        "",
        "restore",
        "restore/",
        "vol0",
        "other/vol0",
        "restored/vol0",
        "restore/../x",
        "restore/a b",
        "restore/a/b",
        "restore/a\n",
        "restore/" + "x" * 65,
        "restore/\N{SNOWMAN}",
    ],
)
def test_other_config_strings_are_refused(config: str) -> None:
    with pytest.raises(BadNameError):
        volume_name(config)
