"""What ``langgraph-serverless plan`` counts on is what a running server does (``bench/footprint.py`` measures it)."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest
from dev_server import PATIENCE, DevServer
from figures import Figures
from worker_container import MakeContainer

from bench.footprint import PROJECT, measure
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import RunRequest
from langgraph_serverless.planning.footprint import MEASURED
from langgraph_serverless.planning.workers import play_runs
from langgraph_serverless.planning.workload import Deployment

STEPS = Path(__file__).parent.parent / "faults" / "project" / "langgraph.json"

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


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("rate", "run_seconds", "jobs", "limit"),
    [(0.3, 0.6, 4, 0), (3.0, 1.0, 4, 0), (8.0, 1.0, 10, 0), (6.0, 1.0, 2, 2)],
    ids=["lonely runs", "some workers", "large workers", "too few workers"],
)
async def test_the_played_queue_is_as_the_real_one(
    rate: float,
    run_seconds: float,
    jobs: int,
    limit: int,
    worker_on: MakeContainer,
    clean_database: None,
    sites: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    seed: int,
    figures: Figures,
) -> None:
    """The same runs at the same times, for the simulation and for real workers: as many invocations, for as long."""
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    chance = random.Random(seed)
    grace, cold_start, lasting = 1.0, 0.5, 40.0
    runs, at = [], chance.expovariate(rate)
    while at < lasting:
        runs.append((at, chance.uniform(0.5, 1.5) * run_seconds))
        at += chance.expovariate(rate)

    api = await worker_on(
        STEPS, worker_function_name="worker", n_jobs_per_worker=jobs, worker_concurrency=limit, pool_max_size=5
    )
    lambda_ = sites(api, cold_start=cold_start, idle_grace=grace, concurrency=limit or None)
    began = time.monotonic()

    async def create(after: float, seconds: float) -> Any:
        await asyncio.sleep(began + after - time.monotonic())  # what is measured is a load at given times
        given = {"name": "plan", "steps": 1, "seconds": seconds}
        return await api.runs.create(ANONYMOUS, RunRequest(assistant_id="steps", input=given), thread_id=None)

    await asyncio.gather(*(create(*run) for run in runs))
    until = time.monotonic() + PATIENCE
    while not lambda_.idle:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)

    deployment = Deployment(
        jobs_per_worker=jobs, worker_concurrency=limit, idle_grace_seconds=grace, cold_start_seconds=cold_start
    )
    played = play_runs(runs, deployment, until=lasting + 60)
    invocations = len(lambda_.invocations)
    seconds = sum((each.ended or 0) - each.began for each in lambda_.invocations)
    figures(
        f"plan, {rate:g} runs/s",
        runs=len(runs),
        invocations=invocations,
        played_invocations=played.invocations,
        worker_seconds=seconds,
        played_seconds=played.seconds,
        peak=lambda_.peak,
        played_peak=played.peak_workers,
        seed=seed,
    )
    assert sum(each.report["succeeded"] for each in lambda_.invocations if each.report) == len(runs)
    assert seconds == pytest.approx(played.seconds, rel=0.25, abs=5)
    assert invocations == pytest.approx(played.invocations, rel=0.35, abs=4)
    assert lambda_.peak == pytest.approx(played.peak_workers, rel=0.35, abs=1)
