"""We answer as the official server does: the cases of ``differential/cases``, asked of the real dev command all at once
and compared with the recorded answers. ``differential/compare.py`` says how a case is written and recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from case_files import load_cases, load_differences, load_recorded
from comparison import Deliberate, Verdict, judge
from conversation import ask_all
from dev_server import ROOT, DevServer
from parity import PAGE, page
from workload import assert_invariants

pytestmark = pytest.mark.timeout(180)

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "differential" / "langgraph.json"


CASES = load_cases()
RECORDED = load_recorded()


@pytest.fixture(scope="module")
def server(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    uri = databases.create()
    data_dir = tmp_path_factory.mktemp("differential") / "data"
    environ = {"DATABASE_URI": uri, "REDIS_URI": redis_uri, "REDIS_KEY_PREFIX": "differential"}
    server = DevServer(PROJECT, data_dir, environ)
    try:
        yield server.start()
    finally:
        server.close()
        databases.drop(uri)


@pytest.fixture(scope="module")
def answers(server: DevServer) -> dict[str, Any]:
    """All cases at once, which is quick; each is judged on its own."""
    found: dict[str, Any] = asyncio.run(ask_all(server.url, CASES))
    return found


@dataclass(frozen=True)
class Judged:
    """All verdicts, and which differences were meant."""

    verdicts: Mapping[str, Sequence[Verdict]]
    deliberate: Deliberate


@pytest.fixture(scope="module")
def judged(answers: dict[str, Any]) -> Judged:
    deliberate = Deliberate(load_differences())
    verdicts = {
        case["name"]: judge(case, RECORDED.get(case["name"]), answers[case["name"]], deliberate) for case in CASES
    }
    return Judged(verdicts, deliberate)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_answers_are_those_of_the_official_server(case: dict[str, Any], judged: Judged) -> None:
    assert case["name"] in RECORDED, "record it: compare.py --record"
    different = [str(difference) for verdict in judged.verdicts[case["name"]] for difference in verdict.left]
    assert not different, "\n".join([case["says"], *different])


def test_every_deliberate_difference_is_still_there(judged: Judged) -> None:
    assert judged.deliberate.unused == []


def test_no_recorded_answer_is_left_over() -> None:
    assert not RECORDED.keys() - {case["name"] for case in CASES}


def test_the_page_says_what_is_compared(judged: Judged) -> None:
    """docs/reference/compatibility.md; ``make compat`` writes it."""
    verdicts = [verdict for found in judged.verdicts.values() for verdict in found]
    assert PAGE.read_text() == page(verdicts, load_differences()), "it is not up to date: make compat"


async def test_nothing_is_left_inconsistent(answers: dict[str, Any], server: DevServer) -> None:
    await assert_invariants(server.database_uri, worker=True)
