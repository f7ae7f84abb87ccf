"""The run path answers as the official server does: the cases of ``differential/cases.json``, asked of the real dev
command and compared with the recorded answers. ``differential/compare.py`` says how to record them again.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dev_server import ROOT, DevServer
from workload import assert_invariants

pytestmark = pytest.mark.timeout(180)

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "differential" / "langgraph.json"


def _compare() -> Any:
    """``differential/compare.py``; the test folders are no packages, so it is loaded by path."""
    path = Path(__file__).parent / "differential" / "compare.py"
    spec = importlib.util.spec_from_file_location("lgs_compare", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for it
    spec.loader.exec_module(module)
    return module


compare = _compare()
CASES = compare.load("cases.json")
RECORDED = compare.load("recorded.json")
DELIBERATE = compare.Deliberate(compare.load("differences.json"))


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
    found: dict[str, Any] = asyncio.run(compare.ask_all(server.url, CASES))
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_answers_are_those_of_the_official_server(case: dict[str, Any], answers: dict[str, Any]) -> None:
    name = case["name"]
    found = list(compare.differences(RECORDED[name], answers[name], name))
    different = [str(difference) for difference in found if not DELIBERATE.covers(difference)]
    assert not different, "\n".join([case["says"], *different])


def test_every_deliberate_difference_is_still_there(answers: dict[str, Any]) -> None:
    deliberate = compare.Deliberate(compare.load("differences.json"))
    for case in CASES:
        for difference in compare.differences(RECORDED[case["name"]], answers[case["name"]], case["name"]):
            deliberate.covers(difference)
    assert deliberate.unused == []


async def test_nothing_is_left_inconsistent(answers: dict[str, Any], server: DevServer) -> None:
    await assert_invariants(server.database_uri, worker=True)
