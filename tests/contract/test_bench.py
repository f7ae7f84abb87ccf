"""What ``make bench`` does runs against a real server; the figures are nobody's business here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from dev_server import DevServer, free_port

from bench.catalogue import WORKLOADS
from bench.rounds import Report, measure
from bench.servers import PROJECT, Serving
from bench.streams import first_event
from bench.table import rows, table
from bench.targets import TARGETS, judged
from bench.workloads import Figure, Workload

#: Of the sizes that give figures.
TINY = 0.005


@pytest.fixture(scope="module")
def serving(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    uri = databases.create()
    environ = {"DATABASE_URI": uri, "REDIS_URI": redis_uri, "REDIS_KEY_PREFIX": f"bench-{free_port()}"}
    server = DevServer(PROJECT / "langgraph.json", tmp_path_factory.mktemp("bench") / "data", environ)
    try:
        process = server.start().process
        assert process is not None
        yield Serving(server.url, process.pid, server.log, uri, redis_uri)
    finally:
        server.close()
        databases.drop(uri)


async def test_all_workloads_come_to_figures(serving: Serving) -> None:
    report = Report("ours", 1, load=0.0, started=0.0)
    starts = [Figure("on data, first run", 1.0, "s")]
    await measure(serving, WORKLOADS, TINY, report, starts)
    assert not report.failed
    assert not report.not_served
    assert list(report.figures) == [workload.name for workload in WORKLOADS]
    for workload, figures in report.figures.items():
        assert figures
        # CPU time comes in ticks, and what is counted may be none
        least = 0.0 if workload == "counts" else 1e-9
        assert all(
            math.isfinite(figure.value) and figure.value >= (0.0 if figure.name.endswith("cpu") else least)
            for figure in figures
        )
    found = rows([report])
    printed = table(found)
    assert all(f"| {name} " in printed for name in report.figures)
    verdicts = judged(found)
    assert [verdict.target for verdict in verdicts] == list(TARGETS)
    assert {verdict.met is None for verdict in verdicts if None not in {b.than for b in verdict.target.bounds}} == {
        True
    }


async def test_a_wrong_answer_is_kept_in_place_of_figures(serving: Serving) -> None:
    async def missing(visit: Any) -> list[Any]:
        await visit.client.json("GET", "/no/such/path")
        return []

    async def refused(visit: Any) -> list[Any]:
        await visit.stream({"assistant_id": "unknown"})
        return []

    async def surprised(visit: Any) -> list[Any]:
        return [(await visit.client.json("POST", "/threads", {}))["no_such_key"]]

    report = Report("ours", 1, load=0.0, started=0.0)
    workloads = [
        Workload("a", "", missing),
        Workload("b", "", refused),
        Workload("s", "", surprised),
        Workload("c", "", first_event),
    ]
    await measure(serving, workloads, TINY, report)
    assert report.not_served == ["a"]
    assert report.failed.keys() == {"b", "s"}
    assert "no_such_key" in report.failed["s"]
    assert "422" in report.failed["b"] or "404" in report.failed["b"]
    assert report.figures.keys() == {"c"}
