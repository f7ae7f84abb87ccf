"""What the fault tests have counted, one line per test: ``R1: runs=1000 kills=100 lost=0 … seed=4711``.

A pytest plugin (``tests/conftest.py`` names it). ``figures("R1", runs=1000, lost=0, seed=seed)`` prints the line, shows it
again at the end of the session, with or without ``-s``, and, if the test is a slow one, keeps it in ``.data/figures.txt``
until the same test counts again. ``seed`` is ``SEED`` of the environment or drawn, and is shown when the test fails.
``sizes`` gives a test a fast and a full form. Which test shows what: ``docs/design/fault-tests.md``.
"""

from __future__ import annotations

import fcntl
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parent.parent.parent / ".data" / "figures.txt"
LINES = pytest.StashKey[list[str]]()

#: ``figures(id, name=value, …)``
Figures = Callable[..., None]


def sizes(*, timeout: int, **numbers: tuple[float, float]) -> pytest.MarkDecorator:
    """A test with an argument ``size`` in two forms, as ``sizes(timeout=1800, runs=(100, 1000))``: the first of each two numbers
    in ``make test``, the second in ``make test-slow``, where the environment (``RUNS=…``) may say otherwise.

    Args:
        timeout: seconds after which the full form is given up.
    """

    def full(name: str) -> float:
        given = os.environ.get(name.upper())
        return type(numbers[name][1])(given) if given else numbers[name][1]

    fast = SimpleNamespace(**{name: small for name, (small, _) in numbers.items()}, full=False)
    large = SimpleNamespace(**{name: full(name) for name in numbers}, full=True)
    marks = [pytest.mark.slow, pytest.mark.timeout(timeout)]
    return pytest.mark.parametrize("size", [pytest.param(fast, id="fast"), pytest.param(large, id="full", marks=marks)])


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that this share of the values does not exceed; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@pytest.fixture
def seed() -> int:
    """Where all chance of a test comes from."""
    given = int(os.environ.get("SEED") or random.randrange(10**6))
    print(f"SEED={given}")  # pytest shows it with what fails
    return given


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    def note(about: str, **numbers: Any) -> None:
        line = f"{about}: " + " ".join(f"{name}={_short(value)}" for name, value in numbers.items())
        print(line)
        request.config.stash.setdefault(LINES, []).append(line)
        if request.node.get_closest_marker("slow") is not None:
            _keep(about, line)

    return note


def _short(value: Any) -> str:
    if not isinstance(value, float) or math.isnan(value):
        return str(value)
    return f"{value:.3g}" if abs(value) < 100 else str(round(value))


def _keep(about: str, line: str) -> None:
    """Instead of the same test's line of another time; several sessions may do so at once."""
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        kept = [other for other in file.read().splitlines() if not other.startswith(f"{about}: ")]
        file.truncate(0)
        file.write("\n".join([*kept, f"{line}  ({time.strftime('%Y-%m-%d %H:%M')})", ""]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(LINES, [])
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
