"""The picture of a table: how many times better ours is than each peer's, as bars on a logarithmic scale, from 1 to either side.

What the bars say is made apart from how they are drawn; ``pictures.py`` has the pen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench import pictures
from bench.table import PEERS, short
from bench.targets import Verdict

#: Where the scale ends; a bar that goes on is cut and says its number.
LEAST, MOST = 0.1, 1000.0
_LEFT, _RIGHT, _TOP = 210, 34, 58
_BAR, _GAP = 8, 7


@dataclass(frozen=True, slots=True)
class Group:
    """A row of bars: a ratio above 1 means that ours is better."""

    said: str
    ratios: tuple[tuple[str, float], ...]


def groups(verdicts: Sequence[Verdict]) -> list[Group]:
    """One for each row that has a ratio to any peer."""
    found = []
    for verdict in verdicts:
        ratios = [(peer, verdict.row.ratio(peer)) for peer in PEERS]
        bars = tuple((peer, ratio.median) for peer, ratio in ratios if ratio is not None and ratio.median > 0)
        if bars:
            found.append(Group(verdict.target.said.replace("`", ""), bars))
    return found


def place(ratio: float) -> float:
    """Where a ratio is on the scale, from 0 to 1."""
    return pictures._share(min(max(ratio, LEAST), MOST), LEAST, MOST, log=True)


def svg(rows: Sequence[Group], title: str) -> str:
    """The picture."""
    peers = [peer for peer in PEERS if any(peer == name for group in rows for name, _ in group.ratios)]
    bottom = _TOP + sum(_BAR * len(group.ratios) + _GAP for group in rows)
    parts = [pictures._text(12, 18, title, weight="bold", size=14)]
    parts += pictures._legend([f"than {peer}" for peer in peers], 38, left=12)
    for mark in pictures._decades(LEAST, MOST):
        parts.append(pictures._rule(_across(mark), _TOP - 4, _across(mark), bottom))
        parts.append(pictures._text(_across(mark), bottom + 14, f"{mark:g}x", anchor="middle", size=10))
    y = float(_TOP)
    for group in rows:
        middle = y + _BAR * len(group.ratios) / 2 + 4
        parts.append(pictures._text(_LEFT - 8, middle, group.said, anchor="end"))
        for peer, ratio in group.ratios:
            ends = sorted((_across(1.0), _across(ratio)))
            colour = pictures._COLOURS[peers.index(peer)]
            parts.append(
                f'<rect x="{ends[0]:.1f}" y="{y:.1f}" width="{max(0.5, ends[1] - ends[0]):.1f}" height="{_BAR - 1}"'
                f' fill="{colour}"/>'
            )
            aside, anchor = (3, "start") if ratio >= 1 else (-3, "end")
            parts.append(pictures._text(_across(ratio) + aside, y + _BAR - 1, short(ratio), anchor=anchor, size=8))
            y += _BAR
        y += _GAP
    return pictures._document(title, round(bottom + 22), parts)


def _across(ratio: float) -> float:
    return _LEFT + place(ratio) * (pictures.WIDTH - _LEFT - _RIGHT)
