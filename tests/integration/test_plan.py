"""What ``langgraph-serverless plan`` counts on is what a running server does (``bench/footprint.py`` measures it)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dev_server import DevServer
from figures import Figures

from bench.footprint import PROJECT, measure
from langgraph_serverless.planning.footprint import MEASURED

#: An event of the measured graph has these bytes of its own (``{"token": "t000000"}``).
EVENT_BYTES = 19


@pytest.fixture
def server(tmp_path: Path) -> Any:
    server = DevServer(PROJECT / "langgraph.json", tmp_path / "data")
    yield server.start()
    server.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_footprint_of_a_run_is_what_plans_count_on(server: DevServer, figures: Figures) -> None:
    found = measure(server, 200)
    stored = {unit: amounts.database_bytes for unit, amounts in found.items()}
    written = {unit: amounts.wal_bytes for unit, amounts in found.items()}
    held = {unit: amounts.redis_bytes for unit, amounts in found.items()}
    figures(
        "plan footprint",
        run_bytes=stored["run"],
        superstep_bytes=stored["superstep"],
        state_kb_bytes=stored["state_kilobyte"],
        run_redis=held["run"],
        event_redis=held["event"],
    )
    tolerance = 0.25
    for unit in ("run", "superstep", "state_kilobyte"):
        assert stored[unit] == pytest.approx(MEASURED[unit].database_bytes, rel=tolerance)
        assert written[unit] == pytest.approx(MEASURED[unit].wal_bytes, rel=tolerance)
    assert held["run"] == pytest.approx(MEASURED["run"].redis_bytes, rel=tolerance)
    assert held["event"] - EVENT_BYTES == pytest.approx(MEASURED["event"].redis_bytes, rel=tolerance)
    for unit in ("run", "superstep"):
        assert found[unit].commits == pytest.approx(MEASURED[unit].commits, rel=tolerance)
    assert found["run"].redis_commands == pytest.approx(MEASURED["run"].redis_commands, rel=tolerance)
    assert found["event"].redis_commands == pytest.approx(MEASURED["event"].redis_commands, rel=tolerance)
