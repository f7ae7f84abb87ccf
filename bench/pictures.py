"""Figures as pictures: small SVG files that a browser, GitHub and an editor show alike, drawn without a library.

They have a background of their own, so that they can be read on a dark page, and the same figures give the same bytes. Here are lines of
a measure that grows with another one, on axes that may be logarithmic, and the pen; ``picture.py`` draws the bars of servers with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM, _LINE = 74, 26, 48, 52, 16
_COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#475569", "#0891b2", "#be185d")
_GRID, _INK = "#e2e8f0", "#1e293b"

Points = Sequence[tuple[float, float]]


def line_chart(
    title: str, x_label: str, y_label: str, lines: Mapping[str, Points], *, log_x: bool = False, log_y: bool = False
) -> str:
    """One line with dots for each name; points are (x, y). A logarithmic axis leaves out what is not above 0.

    Where ``x`` is logarithmic its marks are the values that there are, as they are few and were chosen.
    """
    shown = {
        name: [(x, y) for x, y in points if (x > 0 or not log_x) and (y > 0 or not log_y)]
        for name, points in lines.items()
    }
    top = _TOP + _LINE * max((line for _, line in _places(list(shown), _LEFT)), default=0)
    xs = sorted({x for points in shown.values() for x, _ in points}) or [1.0]
    ys = [y for points in shown.values() for _, y in points] or [1.0]
    x_marks = xs if log_x or len(xs) <= 6 else _marks(max(xs))
    y_marks = _decades(min(ys), max(ys)) if log_y else _marks(max(ys))
    x_ends = (xs[0], xs[-1]) if log_x else (0.0, max(x_marks[-1], xs[-1]))

    def across(x: float) -> float:
        return _LEFT + _share(x, *x_ends, log=log_x) * (WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return HEIGHT - _BOTTOM - _share(y, y_marks[0], y_marks[-1], log=log_y) * (HEIGHT - top - _BOTTOM)

    parts = [_text(_LEFT, 18, title, weight="bold", size=14), *_legend(list(shown), 36)]
    for y in y_marks:
        parts.append(_rule(_LEFT, down(y), WIDTH - _RIGHT, down(y)))
        parts.append(_text(_LEFT - 8, down(y) + 4, _short(y), anchor="end"))
    for x in x_marks:
        parts.append(_rule(across(x), top, across(x), HEIGHT - _BOTTOM))
        parts.append(_text(across(x), HEIGHT - _BOTTOM + 16, _short(x), anchor="middle"))
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 14, x_label, anchor="middle"))
    middle = (top + HEIGHT - _BOTTOM) / 2
    parts.append(_text(16, middle, y_label, anchor="middle", turn=f"rotate(-90 16 {middle:.0f})"))
    for number, points in enumerate(shown.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return _document(title, HEIGHT, parts)


def _share(value: float, least: float, most: float, *, log: bool) -> float:
    """How far along an axis."""
    if log:
        value, least, most = math.log10(value), math.log10(least), math.log10(most)
    return (value - least) / (most - least) if most > least else 0.5


def _marks(most: float) -> list[float]:
    """From 0 in steps that people count in, up to ``most`` or just beyond."""
    if most <= 0:
        return [0.0, 1.0]
    step: float = 10 ** math.floor(math.log10(most))
    while most / step < 3:
        step /= 2 if most / step >= 1.5 else 5
    if most / step > 6:
        step *= 2
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _decades(least: float, most: float) -> list[float]:
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g} M"
    if value >= 10_000 and value % 1000 == 0:
        return f"{value / 1000:g} k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _places(names: Sequence[str], left: float) -> list[tuple[float, int]]:
    """Where each name of a legend begins, and in which line."""
    found: list[tuple[float, int]] = []
    x, line = left, 0
    for name in names:
        width = 30 + 6.4 * len(name)
        if x + width > WIDTH and x > left:
            x, line = left, line + 1
        found.append((x, line))
        x += width
    return found


def _legend(names: Sequence[str], y: float, *, left: float = _LEFT) -> list[str]:
    """Names with their colours, in as many lines as they need."""
    parts: list[str] = []
    for number, (name, (x, line)) in enumerate(zip(names, _places(names, left), strict=True)):
        colour, down = _COLOURS[number % len(_COLOURS)], y + _LINE * line
        parts.append(f'<rect x="{x:.0f}" y="{down - 9:.0f}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 14, down, name))
    return parts


def _rule(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{_GRID}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 11, weight: str = "normal", turn: str = ""
) -> str:
    turned = f' transform="{turn}"' if turn else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"{turned}>'
        f"{escape(text)}</text>"
    )


def _document(title: str, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
        f' aria-label="{escape(title)}" font-family="system-ui, sans-serif" fill="{_INK}">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *parts, "</svg>", ""])
