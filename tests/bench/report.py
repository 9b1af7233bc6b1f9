"""What `make bench` reports: pairs of measurements, their ratios, the file and the table. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

ROUNDS_MIN = 3
"""A spread of fewer ratios says nothing."""


class MeasurementError(Exception):
    """A program that measures did not say what it should have; the run fails."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One round: ours, and the peer right beside it."""

    ours: float
    peer: float

    @property
    def ratio(self) -> float:
        """Ours in terms of the peer."""
        return self.ours / self.peer


@dataclass(frozen=True, slots=True)
class Bar:
    """What is measured, on which link, against whom, in which unit."""

    bar: str
    link: str
    peer_name: str
    unit: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One entry of the report. Medians are taken for each side by itself, ratios in each round."""

    bar: str
    link: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio_median: float
    ratio_min: float
    ratio_max: float


def summarize(bar: Bar, pairs: Sequence[Pair]) -> Figure:
    """Return the figure of some rounds.

    Raises:
        MeasurementError: there are too few rounds, or a side of one is not a positive number.
    """
    if len(pairs) < ROUNDS_MIN:
        raise MeasurementError(f"{bar.bar}: {len(pairs)} rounds, at least {ROUNDS_MIN} are needed")
    if any(not (0 < side < float("inf")) for pair in pairs for side in (pair.ours, pair.peer)):
        raise MeasurementError(f"{bar.bar}: a measurement is not a positive number: {pairs}")
    ratios = [pair.ratio for pair in pairs]
    return Figure(
        bar=bar.bar,
        link=bar.link,
        ours=_rounded(median(pair.ours for pair in pairs)),
        peer=_rounded(median(pair.peer for pair in pairs)),
        peer_name=bar.peer_name,
        unit=bar.unit,
        ratio_median=_rounded(median(ratios)),
        ratio_min=_rounded(min(ratios)),
        ratio_max=_rounded(max(ratios)),
    )


def _rounded(number: float) -> float:
    """Return four significant digits: the machines' noise is far above that."""
    return float(f"{number:.4g}")


def format_report(figures: Iterable[Figure]) -> str:
    """Return the text of report.json."""
    return json.dumps([asdict(figure) for figure in figures], indent=2) + "\n"


def format_table(figures: Iterable[Figure]) -> str:
    """Return the figures for a person."""
    header = ("bar", "link", "ours", "peer", "unit", "ours/peer (min .. max)", "peer is")
    rows = [header, *(_cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in (2, 3) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def format_line(figure: Figure) -> str:
    """Return one figure for a person who waits for the others."""
    bar, link, ours, peer, unit, ratio, _ = _cells(figure)
    return f"{bar} ({link}): {ours} and {peer} {unit}, {ratio}"


def _cells(figure: Figure) -> tuple[str, ...]:
    spread = f"{figure.ratio_median:.2f} ({figure.ratio_min:.2f} .. {figure.ratio_max:.2f})"
    sides = (f"{figure.ours:,.5g}", f"{figure.peer:,.5g}")
    return (figure.bar, figure.link, *sides, figure.unit, spread, figure.peer_name)
