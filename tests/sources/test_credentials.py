"""CHAP secrets come only from private files, and go into no message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tcmu_restore.errors import BadDefinitionError
from tcmu_restore.sources.credentials import Credentials, load_credentials

GOOD = 'user = "me"\npassword = "opensesame12"\n'


def write(tmp_path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "chap.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def test_private_file_is_read(tmp_path: Path) -> None:
    assert load_credentials(write(tmp_path, GOOD)) == Credentials("me", "opensesame12")


def test_mutual_chap_is_read(tmp_path: Path) -> None:
    text = GOOD + 'target_user = "it"\ntarget_password = "answer"\n'
    assert load_credentials(write(tmp_path, text)) == Credentials(
        "me", "opensesame12", "it", "answer"
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644])
def test_file_for_others_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(BadDefinitionError, match="make it 0600"):
        load_credentials(write(tmp_path, GOOD, mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    os.chown(path, 12345, 12345)
    with pytest.raises(BadDefinitionError, match="belongs to user 12345"):
        load_credentials(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        'user = "me"',
        'password = "opensesame12"',
        GOOD + 'extra = "x"',
        GOOD + 'target_user = "it"',
        GOOD + 'target_password = "it"',
        'user = ""\npassword = "opensesame12"',
        'user = 1\npassword = "opensesame12"',
        'user = "me"\npassword = ["opensesame12"]',
        'user = "a\\u0000b"\npassword = "opensesame12"',
        f'user = "{"é" * 128}"\npassword = "opensesame12"',
        'user = "me"\npassword = opensesame12',
        b"\xff\xfe",
        "#" * 9000,
    ],
)
def test_other_content_is_refused_without_repeating_it(
    tmp_path: Path, content: str | bytes
) -> None:
    with pytest.raises(BadDefinitionError) as caught:
        load_credentials(write(tmp_path, content))
    assert "opensesame" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(BadDefinitionError):
            load_credentials(path)


def test_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(BadDefinitionError, match="regular"):
        load_credentials(tmp_path / "fifo")


def test_repr_hides_secrets() -> None:
    shown = repr(Credentials("me", "secret1", "it", "secret2"))
    assert "secret" not in shown
