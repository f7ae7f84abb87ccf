"""A worker that was paused for longer than its leases wakes up and finds its runs in other hands (R3, the fast form)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cluster import Cluster
from dev_server import until
from redis import Redis
from workload import RECONNECTING, MakeWorkload, Workload, assert_invariants

from langgraph_serverless.streaming.keys import events_key

pytestmark = [pytest.mark.timeout(120), *map(pytest.mark.filterwarnings, RECONNECTING)]

#: A heartbeat that does not see the loss before the graphs go on: the fence has to refuse what they write.
SLOW_HEARTBEAT = {"HEARTBEAT_INTERVAL_SECS": "1.5"}


def everything(cluster: Cluster, workload: Workload) -> dict[str, Any]:
    """All that a worker may write: rows of runs and threads, checkpoints, writes, blobs, streams."""
    tables = ("lgs.run", "lgs.thread", "checkpoints", "checkpoint_writes", "checkpoint_blobs")
    found: dict[str, Any] = {
        table: sorted(str(row) for row in cluster.rows(f"SELECT * FROM {table}"))  # type: ignore[misc]
        for table in tables
    }
    settings = cluster.settings()
    with Redis.from_url(settings.redis_uri) as redis:
        for run_id in workload.rows():
            found[run_id] = redis.xrange(events_key(settings.redis_key_prefix, run_id))  # type: ignore[arg-type]
    return found


async def test_a_zombie_writes_nothing_after_others_have_finished(cluster: Cluster, workload_on: MakeWorkload) -> None:
    workload = workload_on(cluster, seconds=0.3)
    zombie = cluster.worker(**SLOW_HEARTBEAT)
    await workload.start(single=6, stateless=2, streams=2)
    await workload.under_way()
    zombie.pause()
    held = [run_id for run_id, row in workload.rows().items() if row["status"] == "running"]
    assert held
    cluster.worker()
    await workload.all_right()
    before = everything(cluster, workload)

    zombie.wake()
    until(lambda: zombie.output.count("run lost") >= len(held), f"the zombie to notice: {zombie.output}")
    assert everything(cluster, workload) == before
    assert max(workload.repeats().values()) <= 1
    # and it is a good worker again
    cluster.workers[1].kill()
    again = await workload.client.runs.wait(None, "steps", input={"name": "z", "steps": 1, "seconds": 0})
    assert again["log"] == ["z1"]
    await assert_invariants(cluster.database_uri, worker=True)


async def test_a_zombie_does_not_disturb_those_who_took_over(cluster: Cluster, workload_on: MakeWorkload) -> None:
    workload = workload_on(cluster, seconds=0.8)
    zombie = cluster.worker(**SLOW_HEARTBEAT)
    await workload.start(single=8, streams=2)
    await workload.under_way()
    zombie.pause()
    cluster.worker()
    await asyncio.to_thread(
        until, lambda: {row["attempt"] for row in workload.rows().values()} == {2}, "the runs to be taken over"
    )
    owned = "SELECT count(*) AS count FROM {} WHERE lease_token = ANY(%s::uuid[])"
    tokens = [row["lease_history"][0]["token"] for row in workload.rows().values()]
    tables = ("checkpoints", "checkpoint_writes", "checkpoint_blobs")
    before = [cluster.rows(owned.format(table), (tokens,)) for table in tables]

    zombie.wake()
    await workload.all_right()
    assert [cluster.rows(owned.format(table), (tokens,)) for table in tables] == before
    assert zombie.output.count("run lost") == 10
    # what the zombie goes on with before it notices is one superstep at most, and none of it counts
    assert max(workload.repeats().values()) <= 2
    await assert_invariants(cluster.database_uri, worker=True)
