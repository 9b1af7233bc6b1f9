"""CHAP secrets are used, and are found nowhere; what the volume writes is for root only."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from pathlib import Path

import pytest

from tcmu_restore.errors import BadDefinitionError, BadUrlError, SourceLoginError
from tcmu_restore.service.interface import Manager
from tests.support.tgt import MISSING, TgtTarget

from .rig import SIZE, Rig, merged, read, run

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

OURS, THEIRS, WRONG = "ours-secret-47a", "their-secret-48b", "wrong-secret-49c"
SECRET = re.compile(f"{OURS}|{THEIRS}|{WRONG}".encode())


@pytest.fixture
def guarded(rig: Rig) -> TgtTarget:
    """Another target with the rig's backup, with CHAP in both directions."""
    folder = rig.folder / "g"
    folder.mkdir()
    return TgtTarget(
        folder, rig.folder / "backup", chap=("us", OURS), mutual=("them", THEIRS), identity="backup"
    )


def credentials(rig: Rig, name: str, password: str, proof: str = "", *, mode: int = 0o600) -> str:
    path = rig.folder / f"{name}.toml"
    text = f'user = "us"\npassword = "{password}"\n'
    text += f'target_user = "them"\ntarget_password = "{proof}"\n' if proof else ""
    path.touch(mode=mode)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def search(rig: Rig, log: str, said: list[str]) -> list[str]:
    """Return where a secret is found: files of the volume, this process, the log, what was said."""
    places = {str(path): path.read_bytes() for path in _written(rig)}
    for name in ("cmdline", "environ"):
        places[name] = Path("/proc/self", name).read_bytes()
    places |= {"the log": log.encode(), "what was said": "\n".join(said).encode()}
    return [name for name, content in places.items() if SECRET.search(content)]


def _written(rig: Rig) -> list[Path]:
    return [
        path
        for folder in ("etc", "var")
        for path in (rig.folder / folder).rglob("*")
        if path.is_file()
    ]


def test_secrets_are_found_nowhere_after_good_and_bad_logins(
    rig: Rig, guarded: TgtTarget, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []

    async def refused(name: str, path: str) -> None:
        with pytest.raises(SourceLoginError) as caught:
            await rig.registry.create_volume(
                name, primary=str(rig.primary), backup=guarded.url, credentials=path
            )
        said.append(str(caught.value) + repr(caught.value) + repr(caught.value.__cause__))

    async def go() -> None:
        await refused("w", credentials(rig, "wrong", WRONG, THEIRS))
        await refused("w", credentials(rig, "unproven", OURS, WRONG))
        right = credentials(rig, "right", OURS, THEIRS)
        await rig.registry.create_volume(
            "v", primary=str(rig.primary), backup=guarded.url, credentials=right
        )
        async with rig.opened() as engine:
            assert await read(engine, 0, 4096) == rig.content[:4096]
            await rig.registry.attach_snapshot("v", rig.snapshot.url)
            await rig.registry.merge_start("v")
            await merged(engine)
            said.extend(map(str, await Manager(rig.registry).call("Status", ["v"])))
            said.append(repr(engine.definition) + repr(engine.backup) + repr(engine.facts))
        credentials(rig, "right", WRONG, THEIRS)
        async with rig.opened(reachable=False) as engine:
            while engine.backup.last_error is None:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
            assert isinstance(engine.backup.last_error, SourceLoginError)
            said.append(json.dumps(rig.registry.status("v")))

    with guarded:
        run(go)
    assert search(rig, caplog.text, said) == []
    assert "right.toml" in (rig.folder / "etc" / "v.toml").read_text()  # it was searched
    assert "refused the login" in said[0]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_credentials_that_others_may_read_are_not_used(rig: Rig, mode: int) -> None:
    async def go() -> None:
        with pytest.raises(BadDefinitionError, match="make it 0600"):
            await rig.registry.create_volume(
                "v",
                primary=str(rig.primary),
                backup=rig.backup.url,
                credentials=credentials(rig, "open", OURS, mode=mode),
            )

    run(go)
    assert _written(rig) == []


def modes(rig: Rig) -> dict[str, str]:
    return {
        str(path.relative_to(rig.folder)): oct(path.stat().st_mode & 0o777)
        for folder in ("etc", "var")
        for path in (rig.folder / folder, *(rig.folder / folder).iterdir())
    }


def check_modes(rig: Rig) -> None:
    for name, mode in modes(rig).items():
        assert mode == ("0o700" if name in ("etc", "var") else "0o600"), modes(rig)


def test_what_a_volume_writes_is_for_its_owner_only_whatever_happens(rig: Rig) -> None:
    """With the widest umask, in folders that were open, over files that were left behind."""
    for folder in ("etc", "var"):
        (rig.folder / folder).mkdir(mode=0o777)
        (rig.folder / folder).chmod(0o777)
    left_behind = rig.folder / "etc" / "v.new"
    left_behind.touch()
    left_behind.chmod(0o666)
    spare = rig.folder / "spare"
    spare.write_bytes(bytes(SIZE + 4096))

    async def go() -> None:
        await rig.create()
        check_modes(rig)
        async with rig.opened() as engine:
            await read(engine, 0, 4096)
            await rig.registry.prepare_snapshot("v")
            await rig.registry.replace_primary("v", str(spare))
            check_modes(rig)
        check_modes(rig)
        await rig.registry.rebuild_state("v")
        assert len(_written(rig)) > 2  # the old state is kept
        check_modes(rig)

    before = os.umask(0)
    try:
        run(go)
    finally:
        os.umask(before)


def test_secret_in_a_url_is_refused_and_not_repeated(rig: Rig, guarded: TgtTarget) -> None:
    async def go() -> None:
        url = guarded.url.replace("iscsi://", f"iscsi://us%{OURS}@")
        with pytest.raises(BadUrlError, match="credentials file") as caught:
            await rig.registry.create_volume("v", primary=str(rig.primary), backup=url)
        assert OURS not in str(caught.value)

    run(go)
