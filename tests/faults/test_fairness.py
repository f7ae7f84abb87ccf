"""A tenant that floods the queue keeps nobody waiting, and no group gets past its limit, whatever its workers die of (R20)."""

from __future__ import annotations

import asyncio
import random
import time
from types import SimpleNamespace
from typing import Any

import moves
import psycopg
import pytest
from cluster import Cluster
from dev_server import ROOT, until
from figures import Figures, percentile, sizes
from workload import RECONNECTING, assert_invariants

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "priorities" / "langgraph.json"
WORKERS, LIMIT, LIMITED = 3, 3, "limited"

pytestmark = [
    *map(pytest.mark.filterwarnings, RECONNECTING),
    pytest.mark.filterwarnings("ignore:The Priority API is in beta"),
]


@pytest.mark.parametrize("cluster", [PROJECT], indirect=True, ids=["priorities"])
@sizes(timeout=1800, flood=(200, 10_000), period=(0.2, 1.0), limited=(20, 500), jobs=(5, 10), kills=(1, 10))
async def test_a_flood_of_one_tenant_keeps_another_waiting_for_moments(
    cluster: Cluster, size: SimpleNamespace, seed: int, figures: Figures
) -> None:
    chance = random.Random(seed)
    with psycopg.connect(cluster.database_uri, autocommit=True) as connection:
        connection.execute(moves.WATCH)
    environ = {
        "N_JOBS_PER_WORKER": str(size.jobs),
        "CONCURRENCY_LIMITS_BY_GROUP": f'{{"{LIMITED}": {LIMIT}}}',
    }
    async with cluster.client() as client:
        for group, runs in (("flood", size.flood), (LIMITED, size.limited)):
            for start in range(0, runs, 500):
                await client.runs.create_batch([_run(group)] * min(500, runs - start))  # type: ignore[list-item]
        workers = [cluster.worker(**environ) for _ in range(WORKERS)]
        await asyncio.to_thread(until, lambda: _count(cluster, "status = 'running'") > 0, "a worker")
        killed, began = 0, time.monotonic()
        steady = 0
        while (left := _count(cluster, "concurrency_key = 'flood' AND status = 'pending'")) > 0:
            await client.runs.create(None, **_run("steady"))
            steady += 1
            if killed < size.kills and left < size.flood * (1 - (killed + 1) / (size.kills + 2)):
                victim = chance.randrange(WORKERS)
                workers[victim].kill()
                workers[victim] = cluster.worker(**environ)
                killed += 1
            assert time.monotonic() - began < (1500 if size.full else 120), f"{left} runs of the flood still wait"
            await asyncio.sleep(size.period)
        await asyncio.to_thread(until, lambda: _count(cluster, "status <> 'success'") == 0, "all runs to succeed")

    waits = [row["waited"] for row in cluster.rows(_WAITS)]
    most = {row["name"]: row["most"] for row in cluster.rows(moves.MOST_RUNNING)}
    overtaken = cluster.rows(_OVERTAKEN)[0]["runs"]
    figures(
        "R20",
        flood=size.flood,
        steady=steady,
        seconds=time.monotonic() - began,
        kills=killed,
        steady_wait_p50=percentile(waits, 50),
        steady_wait_p95=percentile(waits, 95),
        steady_wait_max=max(waits),
        steady_that_overtook=overtaken,
        limit=LIMIT,
        most_running_of_limited=most[LIMITED],
        seed=seed,
    )
    assert percentile(waits, 95) < 5
    # the last one may come when nothing of the flood waits any more
    assert len(waits) > 2
    assert overtaken >= len(waits) - 1
    assert most[LIMITED] == LIMIT
    assert killed == size.kills
    await assert_invariants(cluster.database_uri, worker=True)


_WAITS = """
SELECT EXTRACT(EPOCH FROM started_at - created_at)::float8 AS waited FROM lgs.run WHERE concurrency_key = 'steady'
"""
#: Runs of the steady tenant that began while older ones of the flood had not.
_OVERTAKEN = """
SELECT count(*) AS runs FROM lgs.run s
WHERE concurrency_key = 'steady' AND EXISTS (
    SELECT 1 FROM lgs.run f
    WHERE f.concurrency_key = 'flood' AND f.created_at < s.created_at AND f.started_at > s.started_at)
"""


def _run(group: str) -> dict[str, Any]:
    return {"assistant_id": "pause", "input": {"seconds": 0.1}, "metadata": {"fairness_group": group}}


def _count(cluster: Cluster, condition: str) -> int:
    return int(cluster.rows(f"SELECT count(*) AS runs FROM lgs.run WHERE {condition}")[0]["runs"])
