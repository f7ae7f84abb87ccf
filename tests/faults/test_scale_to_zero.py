"""Worker functions while everything that wakes them fails: invocations that are lost, refused or killed, a Redis that forgets.

All runs end, and the number of invocations has a bound: of those that were useful, one for each run that a worker takes at once
and each fault; of the others, one for each tick.
"""

from __future__ import annotations

import asyncio
import random
import time
from types import SimpleNamespace

import pytest
from dev_server import PATIENCE
from figures import Figures, sizes
from lambda_service import Deploy, idle
from redis.asyncio import Redis
from workload import RECONNECTING, assert_invariants

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.manifest import Manifest

pytestmark = [pytest.mark.filterwarnings(warning) for warning in RECONNECTING]
JOBS, LIMIT = 5, 3


@sizes(timeout=1800, runs=(20, 500), faults=(4, 100))
async def test_every_run_ends_whatever_happens_to_those_who_are_woken(
    size: SimpleNamespace, deployed: Deploy, figures: Figures, seed: int
) -> None:
    chance = random.Random(seed)
    losses = random.Random(seed + 1)
    cluster, service = deployed(
        limit=60,
        sandboxes=LIMIT,
        edge={"concurrency": LIMIT, "retry": (0.2, 1.0), "lose": lambda: losses.random() < 0.1},
        WORKER_CONCURRENCY=str(LIMIT),
        WORKER_START_SECS="3",
        WORKER_IDLE_GRACE_SECS="0.5",
        N_JOBS_PER_WORKER=str(JOBS),
        MAX_RUN_ATTEMPTS="10",
    )
    scheduler = SchedulerContainer(cluster.settings(), manifest=Manifest.of({}))
    redis = Redis.from_url(cluster.settings().redis_uri)
    kills = flushes = refusals = ticks = left = 0
    began = time.monotonic()

    async def tick() -> None:
        nonlocal ticks
        ticks += 1
        await scheduler.scheduler.tick()

    async def finished() -> bool:
        nonlocal left
        rows = cluster.rows("SELECT count(*) AS left FROM lgs.run WHERE status IN ('pending', 'running')")
        left = rows[0]["left"]
        return left == 0

    async with cluster.client() as client, asyncio.timeout(PATIENCE * (20 if size.full else 4)):
        made = 0
        while made < size.runs or not await finished():
            for _ in range(min(size.runs - made, chance.randint(1, 5))):
                given = {"name": f"r{made}-", "steps": 3, "seconds": 0.1}
                await client.runs.create(None, "steps", input=given, durability="sync")
                made += 1
            if kills + flushes + refusals < size.faults:
                fault = chance.choice(("kill", "kill", "flush", "refuse"))
                if fault == "kill":
                    kills += service.kill_one(chance)
                elif fault == "flush":
                    flushes += 1
                    keys = [key async for key in redis.scan_iter(f"{cluster.settings().redis_key_prefix}:{{queue}}:*")]
                    await redis.delete(*keys, "nothing")
                service.throttled = fault == "refuse"
                refusals += service.throttled
            else:
                service.throttled = False
            await tick()
            await asyncio.sleep(chance.uniform(0.1, 0.4))
        await asyncio.to_thread(idle, service)
    seconds = time.monotonic() - began
    rows = cluster.rows("SELECT status, count(*) AS runs FROM lgs.run GROUP BY status")
    assert {row["status"]: row["runs"] for row in rows} == {"success": size.runs}
    invocations, empty = len(service.invocations), sum(each.empty for each in service.invocations)
    figures(
        "C6 faults",
        runs=size.runs,
        invocations=invocations,
        empty=empty,
        kills=kills,
        flushes=flushes,
        refusals=refusals,
        lost=service.lost,
        ticks=ticks,
        peak=service.peak,
        crowded=service.crowded,
        seconds=seconds,
        seed=seed,
    )
    assert service.peak <= LIMIT
    # workers may all leave between two of the requests, so each of them may have to wake somebody; who is killed or forgotten by
    # Redis is replaced, up to the limit
    assert invocations + service.too_old <= size.runs + kills + LIMIT * (flushes + 1)
    settled = invocations
    assert (await scheduler.scheduler.tick()).bells_rung == 0
    assert len(service.invocations) == settled
    await redis.aclose()
    await scheduler.aclose()
    await assert_invariants(cluster.database_uri)
