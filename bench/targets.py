"""What we want to be, row by row: so many times faster than a peer in the same rounds, or no more than so much.

A target is data and fails nothing. It is met if the median of the rounds says so; it is left open where the peer that it names
was not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.table import OURS, PEERS, Row, markdown, servers, times

#: In the place of a peer: the best of all, in each round.
BEST = "the best"


@dataclass(frozen=True, slots=True)
class Bound:
    """At most so many times (at least, where more is better) what the peer came to, or the number itself."""

    factor: float
    than: str | None = None

    def measured(self, row: Row) -> float | None:
        """The same ratio or number of what was measured."""
        ours = row.values.get(OURS, {})
        if self.than is None:
            return statistics.median(ours.values()) if ours else None
        theirs = row.best() if self.than == BEST else row.values.get(self.than, {})
        ratios = [ours[number] / theirs[number] for number in ours.keys() & theirs.keys() if theirs[number]]
        return statistics.median(ratios) if ratios else None

    def met(self, row: Row) -> bool | None:
        """None if nothing says so."""
        if (measured := self.measured(row)) is None:
            return None
        return measured >= self.factor if row.more_is_better else measured <= self.factor

    def said(self, row: Row) -> str:
        """The bound, and in brackets what it came to."""
        sign = "≥" if row.more_is_better else "≤"
        number = f"{self.factor:g}"
        if self.than is None:
            return f"{sign} {number}"
        measured = self.measured(row)
        return f"{sign} {number} x {self.than}{'' if measured is None else f' ({measured:.2f})'}"


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the table of targets."""

    said: str
    workload: str
    figure: str
    bounds: tuple[Bound, ...]


def _t(said: str, workload: str, figure: str, *bounds: tuple[float, str] | float) -> Target:
    made = (Bound(*bound) if isinstance(bound, tuple) else Bound(bound) for bound in bounds)
    return Target(said, workload, figure, tuple(made))


TARGETS = (
    _t("`runs/wait`, stateless, 1 client", "wait", "stateless c1 p50", (0.33, "langhost")),
    _t("`runs/wait`, stateless, 16 clients", "wait", "stateless c16", (4, "langhost")),
    _t("`runs/wait` on a thread, 1 client", "wait", "thread c1 p50", (0.4, "langhost")),
    _t("300 background runs drained", "drain", "runs", (4, "langhost"), (1, "reference")),
    _t("server CPU per background run", "drain", "runs cpu", (1, "reference")),
    _t("commits per run", "counts", "commits", 4),
    _t("rollbacks per run", "counts", "rollbacks", 0),
    _t("Redis commands per run, inside scripts too", "counts", "Redis commands", 6),
    _t("Redis round trips per run", "counts", "Redis round trips", 6),
    _t("POST to node start while idle", "idle_start", "node begins p50", (0.3, "langhost")),
    _t("first event of a token stream", "tokens", "c1 first token", (0.3, BEST)),
    _t("tokens in one stream", "tokens", "c1 in the stream", (1, "reference")),
    _t("tokens over 8 streams", "tokens", "c8 all", (1, "reference")),
    _t("cost of one superstep", "supersteps", "cost of one", (0.6, "langhost")),
    _t("thread create, 16 clients", "threads", "create c16", (1, "reference")),
    _t("thread get, 16 clients", "threads", "get c16", (1, "reference")),
    _t("thread search in 2,000, 16 clients", "threads", "search c16", (1.5, BEST)),
    _t("history of 20 supersteps", "history", "history c1 p50", (1, "reference")),
    _t("50 runs that sleep 1 s, 10 at once", "sleepers", "all", 5.3),
    _t("run with 100 kB of state", "big_state", "run p50", (0.33, "langhost")),
    _t("server memory, idle", "memory", "idle", 150),
    _t("start to first run, data exists", "start", "on data, first run", 3),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target beside what was measured."""

    target: Target
    row: Row

    @property
    def met(self) -> bool | None:
        """Whether all its bounds are; None if one of them is open and no other is missed."""
        each = [bound.met(self.row) for bound in self.target.bounds]
        return False if False in each else None if None in each else True

    @property
    def said(self) -> str:
        found = {True: "met", False: "**missed**", None: "open"}[self.met]
        return f"{' and '.join(bound.said(self.row) for bound in self.target.bounds)}: {found}"


def judged(found: Sequence[Row]) -> list[Verdict]:
    """All targets whose figure was measured of ours."""
    by_name = {(row.workload, row.figure): row for row in found if OURS in row.values}
    return [
        Verdict(target, row) for target in TARGETS if (row := by_name.get((target.workload, target.figure))) is not None
    ]


def target_table(verdicts: Sequence[Verdict]) -> str:
    """Targets, figures, and how many times better ours is than each peer's; in Markdown."""
    names = servers([verdict.row for verdict in verdicts])
    peers = [name for name in names if name in PEERS]
    lines = [("what", "unit", "target", *names, *(f"x {peer}" for peer in peers))]
    lines += [
        (
            verdict.target.said,
            verdict.row.unit,
            verdict.said,
            *(str(verdict.row.spreads.get(name) or "-") for name in names),
            *(times(verdict.row.ratio(peer)) for peer in peers),
        )
        for verdict in verdicts
    ]
    return markdown(lines, words=3)


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many are met, and which are not."""
    missed = [verdict.target.said for verdict in verdicts if verdict.met is False]
    unjudged = [verdict.target.said for verdict in verdicts if verdict.met is None]
    parts = [f"{sum(verdict.met is True for verdict in verdicts)} of {len(verdicts)} targets are met"]
    parts += [f"missed: {', '.join(missed)}"] if missed else []
    parts += [f"open, as a peer was not measured: {', '.join(unjudged)}"] if unjudged else []
    return "; ".join(parts) + "."
