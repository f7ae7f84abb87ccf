"""A graph that takes its worker with it, among good ones (R13, the fast form)."""

from __future__ import annotations

import pytest
from cluster import Cluster
from workload import RECONNECTING, MakeWorkload, assert_invariants

pytestmark = [pytest.mark.timeout(120), *map(pytest.mark.filterwarnings, RECONNECTING)]


async def test_a_poison_run_ends_after_its_attempts_and_the_good_ones_succeed(
    cluster: Cluster, workload_on: MakeWorkload
) -> None:
    cluster.environ |= {"LEASE_DURATION_SECS": "2", "HEARTBEAT_INTERVAL_SECS": "0.5"}  # many have to run out here
    workload = workload_on(cluster, seconds=0.6)
    client = workload.client
    async with cluster.supervised():
        await workload.start(single=2, queued=2, streams=1)
        await workload.under_way(5)
        thread_id = (await client.threads.create())["thread_id"]
        poison = await client.runs.create(thread_id, "poison", input={"name": "p"})
        behind = await client.runs.create(thread_id, "steps", input={"name": "b", "steps": 1, "seconds": 0})
        # late enough for all of them to be in one worker, and to die with it again and again
        parts = [part async for part in client.runs.join_stream(thread_id, poison["run_id"], stream_mode=["values"])]
        await workload.all_right()
        assert (await client.runs.join(thread_id, behind["run_id"]))["log"] == ["b1"]
    run = await client.runs.get(thread_id, poison["run_id"])
    assert run["status"] == "error"
    assert [part.event for part in parts][-1:] in (["error"], [])
    died = [line for line in workload.lines() if line[1] == "poison"]
    assert len(died) == 3, "each attempt once, and no more"
    assert {row["attempt"] for row in workload.rows().values()} >= {3}, "others came to their last attempt with it"
    assert len(cluster.workers) == 4
    (row,) = cluster.rows("SELECT * FROM lgs.run WHERE run_id = %s", (poison["run_id"],))
    assert row["last_error"].startswith("The run lost its worker 3 times")
    await assert_invariants(cluster.database_uri, worker=True)
