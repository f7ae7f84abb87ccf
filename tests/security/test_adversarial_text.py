"""Texts that make slow parsers slow: 50 kB for schedules, zones, times, extract paths, ids, namespaces.

Not timed, as a busy machine would decide the test: what bounds the work is looked at instead. Either a length is refused
before anything is parsed, or the same text twice as long takes as many steps more, or no such pattern is in the code.
"""

from __future__ import annotations

import ast
import re._parser as regex  # type: ignore[import-not-found]
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hostile import Hostile

from langgraph_serverless.domain import crons
from langgraph_serverless.errors import InvalidInputError

ROOT = Path(__file__).parent.parent.parent / "core"
LENGTH = 50_000

TEXTS = {
    "one word": "a" * LENGTH,
    "spaces": " " * LENGTH,
    "stars": "* " * (LENGTH // 2),
    "commas": "1," * (LENGTH // 2) + "1 * * * *",
    "ranges": "0-59/1," * (LENGTH // 7) + "1 * * * *",
    "steps": "*/1" * (LENGTH // 3),
    "slashes": "/" * LENGTH,
    "dots": "." * LENGTH,
    "brackets": "values" + "[0" * (LENGTH // 2),
    "closed brackets": "values" + "[-1]" * (LENGTH // 4),
    "keys": "values" + ".a" * (LENGTH // 2),
    "digits": "9" * LENGTH,
    "hyphens": "-" * LENGTH,
    "colons": "2026-01-01T" + "00:" * (LENGTH // 3),
    "at signs": "@" * LENGTH,
    "path of a zone": "../" * (LENGTH // 3),
    "full-width": "１" * LENGTH,
    "combining": "e" + "\u0301" * LENGTH,
    "last of the month": "0 0 " + "L," * (LENGTH // 2) + "L * *",
    "nth weekday": "0 0 * * " + "1#1," * (LENGTH // 4) + "1#1",
}

FIELDS: dict[str, Any] = {
    "schedule": lambda text: ("/runs/crons", {"assistant_id": "line", "schedule": text}),
    "timezone": lambda text: ("/runs/crons", {"assistant_id": "line", "schedule": "@yearly", "timezone": text}),
    "end_time": lambda text: ("/runs/crons", {"assistant_id": "line", "schedule": "@yearly", "end_time": text}),
    "assistant": lambda text: ("/runs", {"assistant_id": text}),
    "checkpoint": lambda text: ("/runs", {"assistant_id": "line", "checkpoint_id": text}),
    "extract": lambda text: ("/threads/search", {"extract": {"a": text}, "limit": 1}),
    "alias": lambda text: ("/threads/search", {"extract": {text: "values.a"}, "limit": 1}),
    "namespace": lambda text: ("/store/items/search", {"namespace_prefix": [text]}),
    "webhook": lambda text: ("/runs", {"assistant_id": "line", "webhook": f"https://{text}", "after_seconds": 1e8}),
    "name": lambda text: ("/assistants/search", {"name": text}),
}


@pytest.mark.parametrize("field", FIELDS)
def test_it_is_answered(hostile: Hostile, field: str) -> None:
    for text in TEXTS.values():
        path, body = FIELDS[field](text)
        hostile.send("POST", path, json=body)


def steps(call: Any) -> int:
    """How many lines of Python a call takes; unlike time, that is the same on every machine."""
    count = 0

    def trace(*_: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("about", TEXTS)
def test_a_long_schedule_or_zone_is_refused_before_it_is_read(about: str) -> None:
    def check() -> None:
        for schedule, timezone in ((TEXTS[about], None), ("@yearly", TEXTS[about])):
            with pytest.raises(InvalidInputError):
                crons.check_schedule(schedule, timezone)

    assert steps(check) < 20_000


@pytest.mark.parametrize(
    "schedule",
    [
        "0 0 30 2 *",  # never
        "0 0 31 4,6,9,11 *",  # never
        "0 0 29 2 1#1",
        "59 23 31 12 6",
        "* * * * * *",
        "0 0 29 2 *",
        ",".join(map(str, range(60))) + " " + ",".join(map(str, range(24))) + " * * *",
        "*/1,*/2,*/3,*/4,*/5,*/6,*/7,*/8,*/9 " * 2 + "* * *",
        "0 0 L 2 *",
    ],
)
def test_the_longest_schedules_take_few_steps(schedule: str) -> None:
    def check() -> None:
        with suppress(InvalidInputError):
            crons.next_after(schedule, "Australia/Lord_Howe", datetime(2097, 1, 1, tzinfo=UTC))

    assert len(schedule) <= crons.MAX_SCHEDULE_LENGTH
    assert steps(check) < 300_000


def test_crons_that_never_fire_or_cannot_be_foreseen_are_refused(hostile: Hostile) -> None:
    for schedule in (
        *("0 0 30 2 *", "0 0 31 11 *", "R * * * *", "H H * * *", "* * * * * * 2020", "@reboot", "@every 1s", "* * * *"),
        *("60 * * * *", "* 24 * * *", "-1 * * * *", "*/0 * * * *", "0.5 * * * *", "１ * * * *"),
    ):
        response = hostile.send("POST", "/runs/crons", json={"assistant_id": "line", "schedule": schedule})
        assert response.status_code == 422, schedule
        assert response.json()["detail"].startswith("Invalid cron schedule"), schedule
    for end_time in ("0001-01-01", "9999-12-31T23:59:59-23:59", "0000-00-00", "1e9", "now", "99999-01-01"):
        hostile.send("POST", "/runs/crons", json={"assistant_id": "line", "schedule": "@daily", "end_time": end_time})


def patterns() -> Iterator[tuple[str, str]]:
    # those two read files of the package, and no input
    for path in sorted(
        {*ROOT.rglob("*.py")} - {*ROOT.rglob("persistence/queries.py"), *ROOT.rglob("persistence/migrate.py")}
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and node.func.attr != "escape"
            ):
                pattern = node.args[0].value
                yield f"{path.name}:{node.lineno}", pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern


def test_no_pattern_can_go_back_and_forth() -> None:
    """A repeat within a repeat is possessive, of a fixed length, or begins with what cannot be before it."""
    found = [place for place, pattern in patterns() if ambiguous(regex.parse(pattern))]
    assert found == []
    assert len(list(patterns())) > 10


def ambiguous(parsed: Any) -> bool:
    return any(_has_nested_repeat(item) for item in parsed)


def _has_nested_repeat(item: Any, within: bool = False) -> bool:
    name, value = str(item[0]), item[1]
    if name == "MAX_REPEAT" and value[1] > 1:
        body = list(value[2])
        unbounded = value[1] > 64
        if within and unbounded:
            return True
        # a first part that is a fixed character keeps the rounds apart
        separated = str(_first(body)[0]) == "LITERAL"
        return any(_has_nested_repeat(inner, within or (unbounded and not separated)) for inner in body)
    if name == "SUBPATTERN":
        return any(_has_nested_repeat(inner, within) for inner in value[3])
    if name == "BRANCH":
        return any(_has_nested_repeat(inner, within) for branch in value[1] for inner in branch)
    return False


def _first(body: list[Any]) -> Any:
    first = body[0]
    return _first(list(first[1][3])) if str(first[0]) == "SUBPATTERN" else first


@pytest.mark.parametrize(
    ("pattern", "expected"), [(r"(a+)+b", True), (r"(a|a*)*", True), (r"\d+(-\d+)?", False), (r"(\[\d+\])*", False)]
)
def test_the_check_of_patterns_finds(pattern: str, expected: bool) -> None:
    assert ambiguous(regex.parse(pattern)) is expected
