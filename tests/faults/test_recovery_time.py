"""How long a run waits after ``kill -9`` of its worker until it goes on, with the leases of a deployment (R30).

Measured from the kill to the run's first superstep somewhere else. Two shapes: other workers are left, which look for lost
leases every few seconds; and none is left, so that the scheduler's tick of every minute finds the runs and has a worker
started. ``SAMPLES`` and ``ALONE`` say how many of each.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import defaultdict
from itertools import pairwise

import httpx
import pytest
from cluster import PROJECT, Cluster, WorkerProcess
from dev_server import until
from figures import Figures, percentile
from workload import assert_invariants

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SAMPLES, ALONE = int(os.environ.get("SAMPLES", "150")), int(os.environ.get("ALONE", "50"))
#: Those that the settings have if nobody says anything.
DEFAULTS = {
    "LEASE_DURATION_SECS": "30",
    "HEARTBEAT_INTERVAL_SECS": "10",
    "SWEEP_INTERVAL_SECS": "5",
    "QUEUE_POLL_INTERVAL_SECS": "5",
    # What has lost its second worker is tried alone (``services/trials.py``), which takes longer on purpose.
    "MAX_RUN_ATTEMPTS": "50",
    "DATABASE_POOL_MAX_SIZE": "8",
}
TICK, JOBS, STEP = 60.0, 10, 1.0
#: Of these workers, as many are kept full.
WORKERS, FULL = 7, 3


async def test_with_other_workers(cluster: Cluster, seed: int, figures: Figures) -> None:
    chance = random.Random(seed)
    workers = [cluster.worker(**DEFAULTS) for _ in range(WORKERS)]
    killed: dict[int, float] = {}
    made = lost = 0
    while lost < 1.25 * SAMPLES:  # some of them between two supersteps, and not to be seen in the journal
        # Some workers are full and some are free, so that what is lost need not wait for a place as well.
        live = sum(_held(cluster, worker) for worker in workers) + _waiting(cluster)
        if live < FULL * JOBS:
            await _made(cluster, FULL * JOBS - live, steps=20, first=made)
            made += FULL * JOBS - live
        await asyncio.sleep(chance.uniform(4.0, 8.0))
        held = {worker.owner: _held(cluster, worker) for worker in workers if worker.owner}
        busy = [worker for worker in workers if held.get(worker.owner)]
        if not busy:
            continue
        victim = chance.choice(busy)
        victim.kill()
        killed[victim.process.pid] = time.time()
        lost += held[victim.owner]
        workers[workers.index(victim)] = cluster.worker(**DEFAULTS)
    await _ended(cluster)
    took = _resumed(cluster, killed)
    _note(figures, "R30", took, seed)
    assert len(took) >= SAMPLES
    assert percentile(took, 50) < 45
    assert percentile(took, 99) < 95
    await assert_invariants(cluster.database_uri, worker=True)


async def test_with_no_worker_left(cluster: Cluster, seed: int, figures: Figures) -> None:
    chance = random.Random(seed)
    manifest = await build_manifest(GraphRegistry.load(read_project(PROJECT)))
    count = max(1, ALONE // JOBS)
    workers = [cluster.worker(**DEFAULTS) for _ in range(count)]
    await _made(cluster, count * JOBS, steps=30)
    until(lambda: sum(_held(cluster, worker) for worker in workers) == count * JOBS, "the runs to begin")
    killed: dict[int, float] = {}
    next_tick = time.monotonic() + chance.uniform(0, TICK)
    await asyncio.sleep(chance.uniform(2.0, 12.0))
    for victim in workers:
        victim.kill()
        killed[victim.process.pid] = time.time()
    while len(_resumed(cluster, killed)) < count * JOBS:
        await asyncio.sleep(max(0.0, next_tick - time.monotonic()))
        next_tick += TICK
        container = SchedulerContainer(cluster.settings(), manifest=manifest)
        try:
            report = await container.scheduler.tick()
        finally:
            await container.aclose()
        if report.bells_rung:  # a function is invoked for what waits
            for _ in range(-(-report.bells_rung // JOBS)):
                cluster.worker(**DEFAULTS)
            until(lambda: all(not worker.running or worker.owner for worker in cluster.workers), "workers to claim")
            await asyncio.sleep(2 * STEP)
        assert time.time() - max(killed.values()) < 300, "the runs were never found"
    await _ended(cluster)
    took = _resumed(cluster, killed)
    _note(figures, "R30 no worker left", took, seed)
    assert len(took) == count * JOBS
    assert percentile(took, 99) < 95
    await assert_invariants(cluster.database_uri, worker=True)


async def _made(cluster: Cluster, count: int, *, steps: int, first: int = 0) -> None:
    body = {"assistant_id": "steps", "durability": "sync", "on_completion": "keep"}
    runs = [
        {**body, "input": {"name": f"r{number}-", "steps": steps, "seconds": STEP}}
        for number in range(first, first + count)
    ]
    async with httpx.AsyncClient(base_url=cluster.url, timeout=60) as http:
        (await http.post("/runs/batch", json=runs)).raise_for_status()


def _waiting(cluster: Cluster) -> int:
    return int(cluster.rows("SELECT count(*) AS waiting FROM lgs.run WHERE status = 'pending'")[0]["waiting"])


def _held(cluster: Cluster, worker: WorkerProcess) -> int:
    query = "SELECT count(*) AS held FROM lgs.run WHERE status = 'running' AND lease_owner = %s"
    return int(cluster.rows(query, (worker.owner,))[0]["held"])


async def _ended(cluster: Cluster) -> None:
    live = "SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running') LIMIT 1"
    await asyncio.to_thread(until, lambda: not cluster.rows(live), "all runs to end", patience=900, every=0.5)
    assert {row["status"] for row in cluster.rows("SELECT DISTINCT status FROM lgs.run")} == {"success"}


def _resumed(cluster: Cluster, killed: dict[int, float]) -> list[float]:
    """For each run that a kill interrupted, the seconds to its next superstep."""
    begun: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for line in cluster.journal.read_text().splitlines():
        run_id, _, process, at = line.split()
        begun[run_id].append((float(at), int(process)))
    seconds = []
    for steps in begun.values():
        steps.sort()
        for (_, before), (at, after) in pairwise(steps):
            if before != after and before in killed:
                seconds.append(at - killed[before])
    return seconds


def _note(figures: Figures, about: str, took: list[float], seed: int) -> None:
    p50, p90, p99 = (percentile(took, percent) for percent in (50, 90, 99))
    figures(about, samples=len(took), p50=p50, p90=p90, p99=p99, most=max(took), seed=seed)
