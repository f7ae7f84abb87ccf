"""From the reports of all visits to the table: medians of the rounds, their spread, and the ratio of ours to the reference's.

A ratio is taken inside each round, from two figures that were measured a minute apart, and its median is shown. Above 1 ours is
better, whatever the unit.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.rounds import Report
from bench.workloads import Figure

OURS, REFERENCE = "ours", "reference"


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of the rounds, and their ends."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """None of no values."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1]) if found else None

    def __str__(self) -> str:
        if self.least == self.most:
            return _short(self.median)
        return f"{_short(self.median)} ({_short(self.least)}..{_short(self.most)})"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of all servers."""

    workload: str
    figure: str
    unit: str
    ours: Spread | None
    reference: Spread | None
    ratio: Spread | None


def rows(reports: Sequence[Report]) -> list[Row]:
    """One for each figure that any server came to, in the order in which they were measured."""
    kinds: dict[tuple[str, str], Figure] = {}
    values: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for report in reports:
        for workload, figures in report.figures.items():
            for figure in figures:
                key = (workload, figure.name)
                kinds.setdefault(key, figure)
                values.setdefault(key, {}).setdefault(report.server, {})[report.round] = figure.value
    order = list(dict.fromkeys(workload for report in reports for workload in report.figures))
    return [
        _row(key, kinds[key], values[key].get(OURS, {}), values[key].get(REFERENCE, {}))
        for key in sorted(kinds, key=lambda key: order.index(key[0]))
    ]


def _row(key: tuple[str, str], kind: Figure, ours: dict[int, float], reference: dict[int, float]) -> Row:
    better, worse = (ours, reference) if kind.more_is_better else (reference, ours)
    ratios = [better[number] / worse[number] for number in sorted(ours.keys() & reference.keys()) if worse[number]]
    return Row(*key, kind.unit, Spread.of(ours.values()), Spread.of(reference.values()), Spread.of(ratios))


def table(found: Sequence[Row]) -> str:
    """Markdown that can be read as it is."""
    lines: list[tuple[str, ...]] = [("workload", "figure", "unit", "ours", "reference", "ratio")]
    lines += [
        (row.workload, row.figure, row.unit, *(str(cell or "-") for cell in (row.ours, row.reference, row.ratio)))
        for row in found
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = [False] * 3 + [True] * 3

    def drawn(cells: Iterable[str]) -> str:
        padded = (
            cell.rjust(width) if to_the_right else cell.ljust(width)
            for cell, width, to_the_right in zip(cells, widths, right, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = (
        "-" * (width - 1) + ":" if to_the_right else "-" * width
        for width, to_the_right in zip(widths, right, strict=True)
    )
    return "\n".join([drawn(lines[0]), drawn(rule), *map(drawn, lines[1:])])


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
