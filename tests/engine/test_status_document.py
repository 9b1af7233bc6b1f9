"""docs/status-json.md names exactly the keys that a status has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from tcmu_restore.core.progress import Counters
from tcmu_restore.service.registry_seam import RestoreFromStatus, VolumeStatus
from tests.support.tgt import MISSING

from .rig import Rig, read, run

DOCUMENT = Path(__file__).parents[2] / "docs" / "status-json.md"

ROW = re.compile(r"\| `([a-z_.\[\]]+)` \| (\S[^|]*) \|")

SELDOM = {"shipped[].path", "shipped[].taken", "shipped[].problem", "lio", "lio.state"}
SELDOM |= {"lio.saved_in"}
SELDOM |= {f"restore_from.{key}" for key in get_type_hints(RestoreFromStatus)}
"""A disk that is carried here, a volume that is not served, a restore-from: not in this test."""

STATE_COUNTERS = {"counters.state_transactions", "counters.state_bytes_written"}


def documented() -> list[str]:
    return [found[1] for found in ROW.finditer(DOCUMENT.read_text(encoding="utf-8"))]


def declared(kind: Any = VolumeStatus, before: str = "") -> Iterator[str]:
    """The keys of the type that the service and its clients go by."""
    for name, hint in get_type_hints(kind).items():
        yield before + name
        for inner in (hint, *get_args(hint)):
            if is_typeddict(inner):
                dots = "[]." if get_origin(hint) is list else "."
                yield from declared(inner, before + name + dots)


def emitted(value: object, before: str = "") -> Iterator[str]:
    """The keys of a document."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield before + name
            yield from emitted(inner, f"{before}{name}.")
    elif isinstance(value, list):
        for inner in value:
            yield from emitted(inner, before[:-1] + "[].")


def test_document_names_what_the_types_declare() -> None:
    counters = {f"counters.{item.name}" for item in fields(Counters)} | STATE_COUNTERS
    names = documented()
    assert len(names) == len(set(names)), "a key is documented twice"
    assert set(names) == set(declared()) | counters


@pytest.mark.integration
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_status_of_a_served_volume_has_exactly_the_documented_keys(rig: Rig) -> None:
    async def go() -> None:
        await rig.create()
        async with rig.opened() as engine:
            link = {"link_up": ["/bin/true"], "link_down": ["/bin/true"]}
            await rig.registry.attach_snapshot("v", rig.snapshot.url, link=link)
            assert engine.snapshot is not None
            await read(engine, 0, 4096)
            status = json.loads(json.dumps(rig.registry.status("v")))
        found = set(emitted(status))
        assert found <= set(documented())
        assert set(documented()) - found == SELDOM

    run(go)


def test_example_of_the_words_is_whole() -> None:
    """Every word that a key may have stands in its row."""
    rows = DOCUMENT.read_text(encoding="utf-8").splitlines()
    for key, hint in get_type_hints(VolumeStatus).items():
        for name, inner in [(key, hint), *_inner(key, hint)]:
            words = [word for word in get_args(inner) if isinstance(word, str)]
            row = next(row for row in rows if row.startswith(f"| `{name}` |"))
            for word in words:
                assert f"`{word}`" in row, f"{name}: {word}"


def _inner(key: str, hint: Any) -> list[tuple[str, Any]]:
    if is_typeddict(hint):
        return [(f"{key}.{name}", inner) for name, inner in get_type_hints(hint).items()]
    return []
