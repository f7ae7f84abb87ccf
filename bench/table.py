"""From the reports of all visits to the table: medians of the rounds, their spread, and the ratio of ours to each peer's.

A ratio is taken inside each round, from two figures that were measured minutes apart, and its median is shown. Above 1 ours is
better, whatever the unit.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.rounds import Report
from bench.workloads import Figure

#: Whose figures are compared with the others', and the others, as tables name them.
OURS, PEERS = "ours", ("reference", "aegra", "langhost")


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
            return short(self.median)
        return f"{short(self.median)} ({short(self.least)}..{short(self.most)})"


@dataclass(frozen=True)
class Row:
    """One figure of all servers, by round."""

    workload: str
    figure: str
    unit: str
    more_is_better: bool
    values: Mapping[str, Mapping[int, float]]

    @cached_property
    def spreads(self) -> Mapping[str, Spread]:
        """Of each server that came to it."""
        return {name: spread for name, by_round in self.values.items() if (spread := Spread.of(by_round.values()))}

    def ratio(self, peer: str) -> Spread | None:
        """How many times better ours is; of no round in which either is missing or nothing."""
        ours, theirs = self.values.get(OURS, {}), self.values.get(peer, {})
        better, worse = (ours, theirs) if self.more_is_better else (theirs, ours)
        return Spread.of(better[number] / worse[number] for number in ours.keys() & theirs.keys() if worse[number])

    def best(self) -> Mapping[int, float]:
        """The best of all peers in each round."""
        found: dict[int, list[float]] = {}
        for peer in PEERS:
            for number, value in self.values.get(peer, {}).items():
                found.setdefault(number, []).append(value)
        pick = max if self.more_is_better else min
        return {number: pick(values) for number, values in found.items()}


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
        Row(*key, kinds[key].unit, kinds[key].more_is_better, values[key])
        for key in sorted(kinds, key=lambda key: order.index(key[0]))
    ]


def servers(found: Sequence[Row]) -> list[str]:
    """Those that came to any figure: ours first, then the peers, then other forms of ours."""
    there = {name for row in found for name in row.values}
    return [name for name in (OURS, *PEERS) if name in there] + sorted(there - {OURS, *PEERS})


def table(found: Sequence[Row]) -> str:
    """All figures, in Markdown that can be read as it is."""
    names = servers(found)
    peers = [name for name in names if name in PEERS] if OURS in names else []
    lines = [("workload", "figure", "unit", *names, *(f"x {peer}" for peer in peers))]
    lines += [
        (
            row.workload,
            row.figure,
            row.unit,
            *(str(row.spreads.get(name) or "-") for name in names),
            *(times(row.ratio(peer)) for peer in peers),
        )
        for row in found
    ]
    return markdown(lines, words=3)


def times(ratio: Spread | None) -> str:
    """A ratio's middle, without its ends."""
    return short(ratio.median) if ratio else "-"


def markdown(lines: Sequence[Sequence[str]], *, words: int) -> str:
    """A table of these lines, the first of which is its head; all but the first ``words`` columns hold numbers."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = [column >= words for column in range(len(widths))]

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
    return "\n".join([drawn(lines[0]), drawn(list(rule)), *map(drawn, lines[1:])])


def short(value: float) -> str:
    """Three digits or so."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
