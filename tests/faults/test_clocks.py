"""Workers whose wall clock is an hour off, or is set while they execute (R10): nothing depends on it.

Leases, delays and crons are on the database's clock. The ids of checkpoints are made of the worker's, and LangGraph takes the
highest id for the newest: what a slow clock writes has to sort behind what a fast one has written.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from cluster import Cluster
from dev_server import PATIENCE
from workload import RECONNECTING, MakeWorkload, Workload, assert_invariants

HOUR = 3600

pytestmark = [pytest.mark.timeout(120), *map(pytest.mark.filterwarnings, RECONNECTING)]


def checkpoints(cluster: Cluster, run_id: str) -> list[dict[str, Any]]:
    """In the order of their steps."""
    return cluster.rows(
        "SELECT checkpoint_id, parent_checkpoint_id, (metadata ->> 'step')::int AS step FROM checkpoints"
        " WHERE metadata ->> 'run_id' = %s AND checkpoint_ns = '' ORDER BY 3, 1",
        (run_id,),
    )


async def half_way(workload: Workload, runs: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while sum(line[1] == "2" for line in workload.lines()) < runs:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("first", "then"),
    [(HOUR, 0), pytest.param(0, -HOUR, marks=pytest.mark.slow), pytest.param(0, HOUR, marks=pytest.mark.slow)],
)
async def test_a_run_goes_on_at_a_worker_with_another_clock(
    cluster: Cluster, workload_on: MakeWorkload, first: int, then: int
) -> None:
    cluster.environ |= {"LEASE_DURATION_SECS": "2", "HEARTBEAT_INTERVAL_SECS": "0.5"}
    workload = workload_on(cluster)
    lost = cluster.worker(CLOCK_OFF_BY=str(first))
    await workload.start(single=4, queued=2, waits=2)
    await half_way(workload, 6)
    lost.kill()
    cluster.worker(CLOCK_OFF_BY=str(then))
    await workload.all_right()
    for run_id, row in workload.rows().items():
        saved = checkpoints(cluster, run_id)
        ids = [checkpoint["checkpoint_id"] for checkpoint in saved]
        assert ids == sorted(ids), f"{row['attempt']} attempts"
    assert sum(row["attempt"] - 1 for row in workload.rows().values()) >= 6
    await assert_invariants(cluster.database_uri, worker=True)


@pytest.mark.parametrize("step", [-HOUR, pytest.param(HOUR, marks=pytest.mark.slow)])
async def test_a_clock_that_is_set_loses_no_lease(cluster: Cluster, workload_on: MakeWorkload, step: int) -> None:
    workload = workload_on(cluster, seconds=0.3)
    worker = cluster.worker(CLOCK_STEP=str(step))
    await workload.start(single=4, queued=2, waits=2, streams=2)
    delayed = await workload.client.runs.create(None, "steps", input={"name": "d", "steps": 1}, after_seconds=HOUR)
    await half_way(workload, 4)
    worker.process.send_signal(signal.SIGUSR1)
    await workload.all_right()
    assert {row["attempt"] for row in workload.rows().values()} == {1}
    for run_id in workload.rows():
        ids = [checkpoint["checkpoint_id"] for checkpoint in checkpoints(cluster, run_id)]
        assert ids == sorted(ids)
    assert "lease lost" not in worker.output
    (row,) = cluster.rows("SELECT status FROM lgs.run WHERE run_id = %s", (delayed["run_id"],))
    assert row["status"] == "pending"
    await assert_invariants(cluster.database_uri, worker=True)
