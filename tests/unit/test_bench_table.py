"""How the figures of ``make bench`` become its tables, its picture and its page."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from official_server import DidNotStartError

from bench import results
from bench.catalogue import WORKLOADS
from bench.picture import Group, groups, place, svg
from bench.results import BEGIN, END, PAGE, Results, page_text, read, with_figures
from bench.rounds import Report, play
from bench.servers import Contestant, Serving
from bench.table import Row, Spread, rows, table
from bench.targets import BEST, TARGETS, Bound, Target, Verdict, judged, summary, target_table
from bench.workloads import Figure, latencies


def report(server: str, number: int, *, ms: float, rate: float | None = None) -> Report:
    made = Report(server, number, load=0.0, started=1.0)
    made.figures["first_event"] = [Figure("c1", ms, "ms")]
    if rate is not None:
        made.figures["events"] = [Figure("1 stream", rate, "events/s", more_is_better=True)]
    return made


def row(*, more_is_better: bool = False, **values: float) -> Row:
    """One round in which each server came to this."""
    return Row("wait", "c1", "ms", more_is_better, {name: {1: value} for name, value in values.items()})


def test_a_ratio_above_one_is_better_whatever_the_unit() -> None:
    found = rows([report("ours", 1, ms=10, rate=300), report("reference", 1, ms=40, rate=100)])
    assert [(row.workload, row.figure, row.unit) for row in found] == [
        ("first_event", "c1", "ms"),
        ("events", "1 stream", "events/s"),
    ]
    assert [row.ratio("reference") for row in found] == [Spread(4, 4, 4), Spread(3, 3, 3)]


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
    (found,) = rows([report(name, number, ms=ms) for number, name, ms in visits])
    assert found.spreads == {"ours": Spread(10, 10, 100), "reference": Spread(40, 20, 400)}
    assert found.ratio("reference") == Spread(4, 2, 4)
    assert found.ratio("langhost") is None


def test_what_one_server_lacks_has_no_ratio() -> None:
    reports = [report("ours", 1, ms=10, rate=300), report("reference", 2, ms=40)]
    found = rows(reports)
    assert [(sorted(row.spreads), row.ratio("reference")) for row in found] == [
        (["ours", "reference"], None),  # of different rounds
        (["ours"], None),
    ]
    assert table(found).splitlines() == [
        "| workload    | figure   | unit     | ours | reference | x reference |",
        "| ----------- | -------- | -------- | ---: | --------: | ----------: |",
        "| first_event | c1       | ms       | 10.0 |      40.0 |           - |",
        "| events      | 1 stream | events/s |  300 |         - |           - |",
    ]


def test_ours_alone_is_compared_with_nobody() -> None:
    assert table(rows([report("ours", 1, ms=10), report("dev", 1, ms=11)])).splitlines()[0] == (
        "| workload    | figure | unit | ours |  dev |"
    )


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


@pytest.mark.parametrize(
    ("bound", "measured", "met"),
    [
        (Bound(0.4, "langhost"), row(ours=10, langhost=30), True),
        (Bound(0.4, "langhost"), row(ours=15, langhost=30), False),
        (Bound(4, "langhost"), row(ours=121, langhost=30, more_is_better=True), True),
        (Bound(4, "langhost"), row(ours=119, langhost=30, more_is_better=True), False),
        (Bound(0.4, "langhost"), row(ours=10, aegra=30), None),
        (Bound(0.3, BEST), row(ours=10, aegra=100, langhost=30), False),
        (Bound(1.5, BEST), row(ours=160, aegra=50, reference=100, more_is_better=True), True),
        (Bound(4), row(ours=4), True),
        (Bound(0), row(ours=0.1), False),
    ],
)
def test_a_bound_is_met_or_missed_or_open(bound: Bound, measured: Row, met: bool | None) -> None:
    assert bound.met(measured) is met


def test_the_median_of_the_rounds_decides() -> None:
    measured = Row("wait", "c1", "ms", False, {"ours": {1: 10, 2: 90, 3: 10}, "langhost": {1: 40, 2: 40, 3: 40}})
    assert Bound(0.4, "langhost").met(measured)


def test_one_missed_bound_is_enough_and_an_open_one_leaves_it_open() -> None:
    two = Target("drained", "wait", "c1", (Bound(4, "langhost"), Bound(1, "reference")))
    verdicts = [
        Verdict(two, row(ours=100, langhost=20, reference=90, more_is_better=True)),
        Verdict(two, row(ours=100, langhost=20, reference=110, more_is_better=True)),
        Verdict(two, row(ours=100, langhost=30, more_is_better=True)),
        Verdict(two, row(ours=100, langhost=20, more_is_better=True)),
    ]
    assert [verdict.met for verdict in verdicts] == [True, False, False, None]
    assert verdicts[1].said == "≥ 4 x langhost (5.00) and ≥ 1 x reference (0.91): **missed**"
    assert summary(verdicts).startswith("1 of 4 targets are met; missed: drained, drained; open")


def test_targets_name_figures_that_exist() -> None:
    """Of workloads in the catalogue; ``tests/contract/test_bench.py`` finds the figures."""
    assert {target.workload for target in TARGETS} <= {workload.name for workload in WORKLOADS}
    assert len({target.said for target in TARGETS}) == len(TARGETS)


def measured() -> list[Row]:
    target = next(target for target in TARGETS if target.workload == "history")
    return [Row("history", target.figure, "ms", False, {"ours": {1: 2.0}, "reference": {1: 6.0}, "aegra": {1: 1.0}})]


def test_the_table_of_targets_says_met_or_missed() -> None:
    assert target_table(judged(measured())).splitlines()[2] == (
        "| history of 20 supersteps | ms   | ≤ 1 x reference (0.33): met | 2.00 |      6.00 |  1.00 |        3.00 |    0.50 |"
    )


def test_bars_are_ratios_from_one_to_either_side() -> None:
    (group,) = groups(judged(measured()))
    assert group == Group("history of 20 supersteps", (("reference", 3.0), ("aegra", 0.5)))
    assert [place(ratio) for ratio in (0.1, 1, 10, 1000, 5000, 0.01)] == pytest.approx([0, 0.25, 0.5, 1, 1, 0])
    picture = ElementTree.fromstring(svg([group], "better & <better>"))
    bars = [each for each in picture.iter("{http://www.w3.org/2000/svg}rect") if each.get("height") == "7"]
    better, worse = (float(bar.get("x", 0)) for bar in bars)
    assert len(bars) == 2
    assert worse < better  # one begins at 1 and the other ends there
    assert worse + float(bars[1].get("width", 0)) == pytest.approx(better, abs=0.2)


def test_a_server_that_does_not_start_hides_no_other() -> None:
    @contextmanager
    def start(folder: Path) -> Iterator[Serving]:
        raise DidNotStartError("it needs a license")
        yield

    emptied: list[str] = []
    contestants = [Contestant(name, start, [], partial(emptied.append, name)) for name in ("ours", "aegra")]
    reports = play(contestants, WORKLOADS, rounds=2, scale=1.0)
    # another one first each time
    assert [(report.server, report.round) for report in reports] == [
        ("ours", 1),
        ("aegra", 1),
        ("aegra", 2),
        ("ours", 2),
    ]
    assert all(report.failed == {"start": "DidNotStartError: it needs a license"} for report in reports)
    assert emptied == [report.server for report in reports]
    assert rows(reports) == judged(rows(reports)) == []


def kept() -> Results:
    reports = [report("ours", 1, ms=10), report("reference", 1, ms=40)]
    for each, value in zip(reports, (2.0, 6.0), strict=True):
        each.figures["history"] = [Figure("history c1 p50", value, "ms")]
    reports[1].failed["store"] = "WrongAnswerError: 500"
    reports[1].not_served.append("counts")
    machine = {
        "cpu": "a processor",
        "processors": 2,
        "memory_gib": 8,
        "system": "Linux",
        "kernel": "6.1",
        "pinned": True,
    }
    versions = {"databases": {"postgres": "18.4"}, "ours": {"langgraph": "1.2", "redis": "7"}}
    return Results("2026-01-02T03:04:05Z", 1, 1.0, machine, versions, reports)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read(kept().keep(tmp_path / "folder" / "kept.json")) == kept()


def test_what_is_published_is_made_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for name, value in {"ROOT": tmp_path, "PUBLISHED": tmp_path / "results", "PAGE": page}.items():
        monkeypatch.setattr(results, name, value)
    monkeypatch.setattr(results, "PICTURE", page.with_suffix(".svg"))
    written = results.publish(kept(), "some")
    assert written[0] == tmp_path / "results" / "2026-01-02-some.json"
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    for said in (
        "a processor",
        "langgraph 1.2",
        "1 of 1 targets are met",
        "reference, store: WrongAnswerError: 500",
        "reference does not serve counts",
        "(page.svg)",
    ):
        assert said in text
    assert with_figures(text, page_text(kept(), written[0])) == text
    ElementTree.fromstring(page.with_suffix(".svg").read_text())


def test_the_page_has_a_place_for_figures() -> None:
    assert with_figures(PAGE.read_text(), "")
    with pytest.raises(ValueError, match="lacks"):
        with_figures("nothing", "")
