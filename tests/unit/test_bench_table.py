"""How the figures of ``make bench`` become its table."""

from __future__ import annotations

import pytest

from bench.rounds import Report
from bench.table import Spread, rows, table
from bench.workloads import Figure, latencies


def report(server: str, number: int, *, ms: float, rate: float | None = None) -> Report:
    made = Report(server, number, load=0.0, started=1.0)
    made.figures["first_event"] = [Figure("c1", ms, "ms")]
    if rate is not None:
        made.figures["events"] = [Figure("1 stream", rate, "events/s", more_is_better=True)]
    return made


def test_a_ratio_above_one_is_better_whatever_the_unit() -> None:
    found = rows([report("ours", 1, ms=10, rate=300), report("reference", 1, ms=40, rate=100)])
    assert [(row.workload, row.figure, row.unit) for row in found] == [
        ("first_event", "c1", "ms"),
        ("events", "1 stream", "events/s"),
    ]
    assert [row.ratio for row in found] == [Spread(4, 4, 4), Spread(3, 3, 3)]


def test_ratios_are_of_one_round_each() -> None:
    # the second round met a busy machine: both were slow, and the ratio was the same
    visits = [
        (1, "ours", 10),
        (1, "reference", 40),
        (2, "reference", 400),
        (2, "ours", 100),
        (3, "ours", 10),
        (3, "reference", 20),
    ]
    reports = [report(name, number, ms=ms) for number, name, ms in visits]
    (row,) = rows(reports)
    assert row.ours == Spread(10, 10, 100)
    assert row.reference == Spread(40, 20, 400)
    assert row.ratio == Spread(4, 2, 4)


def test_what_one_server_lacks_has_no_ratio() -> None:
    reports = [report("ours", 1, ms=10, rate=300), report("reference", 2, ms=40)]
    assert [(row.ours is None, row.reference is None, row.ratio) for row in rows(reports)] == [
        (False, False, None),  # of different rounds
        (False, True, None),
    ]
    assert table(rows(reports)).splitlines() == [
        "| workload    | figure   | unit     | ours | reference | ratio |",
        "| ----------- | -------- | -------- | ---: | --------: | ----: |",
        "| first_event | c1       | ms       | 10.0 |      40.0 |     - |",
        "| events      | 1 stream | events/s |  300 |         - |     - |",
    ]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1234.5], "1,234"),
        ([3, 1, 2], "2.00 (1.00..3.00)"),
        ([99.94, 100.4], "100 (99.9..100)"),
    ],
)
def test_spreads_are_short(values: list[float], shown: str) -> None:
    assert str(Spread.of(values)) == shown


def test_latencies_have_a_middle_and_a_far_end() -> None:
    middle, end = latencies("c1", [number / 1000 for number in range(1, 101)])
    assert (middle.name, middle.unit, round(middle.value, 1)) == ("c1 p50", "ms", 50.5)
    assert (end.name, round(end.value)) == ("c1 p95", 96)
