"""What is kept of a measurement: tables that are printed and go into the guide, and lines that become pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.pictures import line_chart


@dataclass(frozen=True)
class Picture:
    """Lines over something that grows."""

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False

    def svg(self) -> str:
        return line_chart(self.title, self.x_label, self.y_label, self.lines, log_x=self.log_x, log_y=self.log_y)


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers under a head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]

    def markdown(self) -> str:
        cells = [[_cell(value) for value in row] for row in self.rows]
        rule = ["---" if isinstance(value, str) else "---:" for value in (self.rows[0] if self.rows else self.head)]
        return "\n".join(f"| {' | '.join(line)} |" for line in [list(self.head), rule, *cells])


@dataclass(frozen=True)
class Part:
    """All of one thing that grows, named as its markers in the guide."""

    name: str
    tables: Sequence[Table]
    #: File name without its ending: the picture.
    pictures: Mapping[str, Picture] = field(default_factory=dict)

    def markdown(self) -> str:
        shown = [f"![{picture.title}](../pictures/{name}.svg)" for name, picture in self.pictures.items()]
        return "\n\n".join([*shown, *(table.markdown() for table in self.tables)])


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
