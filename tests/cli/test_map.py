"""The map: what a cell is drawn as, on the terminal and as a picture."""

from __future__ import annotations

import builtins
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from tcmu_restore.cli import map_kinds
from tcmu_restore.cli.client import ServiceClient
from tcmu_restore.cli.errors import ReplyError
from tcmu_restore.cli.map_kinds import KINDS, Map
from tcmu_restore.cli.map_picture import mean_colour
from tcmu_restore.cli.map_view import print_map
from tcmu_restore.service.contract import MAP_CELLS_MAX
from tcmu_restore.service.registry_seam import MapSummary
from tests.cli.command_line import CommandLine
from tests.service.fake_registry import FakeRegistry, make_map, make_status

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EACH = 16384  # regions a cell
CELLS = [
    [EACH, 0, 0, 0, 0, 0],
    [0, EACH, 0, 0, 0, 0],
    [9000, EACH - 9000, 0, 0, 0, 0],
    [EACH - 1, 0, 1, 0, 0, 0],
    [0, 0, 0, EACH, 0, 0],
    [1, 0, 0, EACH - 1, 0, 0],
    [0, 0, 0, 0, EACH, 0],
    [0, 0, 1, EACH - 3, 1, 1],
] * 2


def make(cells: list[list[int]] = CELLS) -> Map:
    return Map.of(cast(MapSummary, make_map("a", cells)))


def printed(found: Map, *, color: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=100, color_system="truecolor" if color else None)
    print_map(console, found, columns=8, moment=MOMENT)
    return out.getvalue()


def test_map_is_readable_without_colour() -> None:
    lines = printed(make()).splitlines()
    assert lines[0] == "a, 1 GiB, 2026-01-02 03:04:05 UTC"
    assert lines[1:4] == [
        "Each cell is about 64 MiB.",
        "      0 B  CHcsLlDo",
        "  512 MiB  CHcsLlDo",
    ]
    assert lines[7].split() == ["L", "lost", "384", "MiB", "37.5", "%"]
    assert lines[9].split() == ["O", "lost,", "outdated", "8", "KiB", "0.1", "%"]
    assert lines[10] == "A small letter: other kinds are in the cell as well."


def test_cells_that_hosts_use_most_are_underlined() -> None:
    document = make_map("a", CELLS) | {"accesses": [1] * 15 + [90]}
    found = Map.of(cast(MapSummary, document))
    assert [index for index in range(16) if found.is_hot(index)] == [15]
    assert printed(found).splitlines()[-1] == "Underlined: hosts use it most."
    assert printed(found, color=True).count("\x1b[1;4;") == 1
    assert "Underlined" not in printed(make())


def test_every_kind_has_a_letter_a_word_and_a_colour_of_its_own() -> None:
    for field in ("letter", "words", "colour", "name"):
        assert len({getattr(kind, field) for kind in KINDS}) == len(KINDS)
    assert printed(make(), color=True).count("\x1b[") > len(CELLS)


def test_share_says_nothing_and_all_only_when_it_is_so() -> None:
    shares = [map_kinds.format_share(count, 10**9) for count in (0, 1, 10**9 - 1, 10**9)]
    assert shares == ["0 %", "0.1 %", "99.9 %", "100 %"]


def test_kind_of_a_newer_service_is_left_out() -> None:
    document = make_map("a", [[1, 0, 0, 3, 0, 0, 7]])
    document["kinds"].append("strange")
    assert sum(Map.of(cast(MapSummary, document)).cells[0].values()) == 4


def test_colour_is_between_those_of_the_kinds_and_an_alarm_is_never_lost_in_it() -> None:
    current, half, lost = (
        mean_colour({"current": share, "lost": 4 - share}) for share in (4, 2, 0)
    )
    assert all(min(a, c) <= b <= max(a, c) for a, b, c in zip(current, half, lost, strict=True))
    alarmed = mean_colour({"current": 10**6, "outdated": 1})
    assert alarmed[0] > (0xD6 / 0xFF) * 0.7
    assert mean_colour({}) == (1.0, 1.0, 1.0)


def test_command_draws_the_volume_in_the_columns_asked_for(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a")
    outcome = command_line("map", "a", "--columns", "32")
    assert outcome.status == 0
    assert registry.calls == [("map", "a", "512")]
    assert outcome.out.count("L" * 32) == 16
    assert "100 %" in outcome.out
    assert command_line("map", "a").status == 0
    assert registry.calls[-1] == ("map", "a", "1024")


def test_largest_terminal_does_not_ask_for_too_much(
    command_line: CommandLine, registry: FakeRegistry
) -> None:
    registry.volumes["a"] = make_status("a")
    assert command_line("map", "a", "--columns", "512").status == 0
    assert int(registry.calls[-1][2]) <= MAP_CELLS_MAX


def test_cells_beyond_the_limit_are_refused(command_line: CommandLine) -> None:
    client = ServiceClient(command_line.bus_address)
    for cells in (0, MAP_CELLS_MAX + 1):
        with pytest.raises(ReplyError, match=f"from 1 to {MAP_CELLS_MAX}"):
            client.map("a", cells)


def test_picture_is_a_png(
    command_line: CommandLine, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.volumes["a"] = make_status("a")
    registry.maps["a"] = make_map("a", CELLS) | {"accesses": list(range(16))}
    path = tmp_path / "map.picture"
    outcome = command_line("map", "a", "--png", str(path))
    assert (outcome.status, outcome.out) == (0, f"The map of a is in {path}\n")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_picture_that_cannot_be_written_is_one_sentence(
    command_line: CommandLine, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.volumes["a"] = make_status("a")
    outcome = command_line("map", "a", "--png", f"{tmp_path}/none/map.png")
    assert outcome.status == 1
    assert "map.png cannot be made: No such file or directory\n" in outcome.out + outcome.err


def test_missing_matplotlib_is_one_sentence(
    command_line: CommandLine, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.volumes["a"] = make_status("a")
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "" and "map_picture" in (arguments[2] or ()):
            raise ImportError(name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    outcome = command_line("map", "a", "--png", "/nowhere/a.png")
    assert outcome.status == 1
    assert "matplotlib is missing; install it with: pip install 'tcmu-restore[picture]'" in (
        outcome.out + outcome.err
    )
    assert registry.calls == []
