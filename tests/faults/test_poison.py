"""Graphs that take their worker with them, or cannot be executed at all, among good ones (R13)."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest
from cluster import PROJECT, Cluster
from dev_server import PATIENCE, until
from figures import Figures, percentile
from worker_container import MakeContainer, working
from workload import RECONNECTING, MakeWorkload, Workload, assert_invariants

from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import RunRequest

GOOD, WORKERS = int(os.environ.get("GOOD", "100")), int(os.environ.get("WORKERS", "3"))
#: Of a superstep; runs have four to six. A lease is as long as one of them.
SECONDS = 2.0
#: What kills a process, of those that ``project/dying.py`` knows.
DEATHS = ("exit", "out_of_memory", "segfault", "abort", "recursion")
#: Where the node is, and its name in the error.
PLACES = {"dying": "die", "dying_in_a_thread": "wedge", "sent": "die", "nested": "team|wedge"}

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


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_every_kind_of_death_among_good_runs(
    cluster: Cluster, workload_on: MakeWorkload, seed: int, figures: Figures
) -> None:
    cluster.environ |= {"LEASE_DURATION_SECS": "2", "HEARTBEAT_INTERVAL_SECS": "0.5", "N_JOBS_PER_WORKER": "10"}
    chance = random.Random(seed)
    deaths = [(kind, chance.choice([*PLACES]), chance.choice(["sync", "async", "exit"])) for kind in DEATHS]
    async with cluster.supervised(WORKERS):
        alone = workload_on(cluster, seconds=SECONDS)
        await alone.start(single=GOOD)
        await alone.all_right(patience=300)
        baseline = delays(alone)
        workload = workload_on(cluster, seconds=SECONDS)
        await workload.start(single=GOOD // 2)
        poison = {}
        for kind, graph, durability in deaths:
            made = await workload.client.runs.create(None, graph, input={"name": kind}, durability=durability)
            poison[made["run_id"]] = (kind, graph, durability)
        await workload.start(single=GOOD - GOOD // 2)
        await workload.all_right(patience=600)
        async with asyncio.timeout(300):
            while cluster.rows("SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running')"):
                await asyncio.sleep(0.1)
    for run_id, how in poison.items():
        (row,) = cluster.rows("SELECT * FROM lgs.run WHERE run_id = %s", (run_id,))
        assert (row["status"], row["last_node"]) == ("error", PLACES[how[1]]), (how, row["error"])
        assert row["error"]["error"] == "RunAttemptsExhausted", how
        assert f"lost its worker 3 times while it executed the node '{PLACES[how[1]]}'" in row["error"]["message"], how
    good = delays(workload)
    worst = max(row["attempt"] for row in workload.rows().values())
    figures(
        "R13",
        good=len(good),
        poison=len(poison),
        deaths=len(cluster.workers) - WORKERS,
        good_p50=percentile(good, 50),
        baseline_p50=percentile(baseline, 50),
        good_p99=percentile(good, 99),
        baseline_p99=percentile(baseline, 99),
        good_attempts=worst,
        seed=seed,
    )
    assert percentile(good, 50) < 2 * percentile(baseline, 50)
    await assert_invariants(cluster.database_uri, worker=True)


def delays(workload: Workload) -> list[float]:
    """From the creation of each run to its end."""
    return [(row["finished_at"] - row["created_at"]).total_seconds() for row in workload.rows().values()]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("memory_error", "MemoryError"),
        ("unknown_graph", "GraphNotFoundError"),
        ("kwargs_without_keys", "KeyError"),
        ("kwargs_of_another_type", "AttributeError KeyError TypeError"),
    ],
)
async def test_what_kills_nobody_ends_at_once(
    worker_on: MakeContainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, error: str
) -> None:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    container = await worker_on(PROJECT, poll_interval=0.1)
    thread = await container.threads.create(ANONYMOUS)
    given = RunRequest(assistant_id="dying_in_a_thread", input={"name": kind})
    run = await container.runs.create(ANONYMOUS, given, thread_id=thread.thread_id)
    behind = await container.runs.create(
        ANONYMOUS,
        RunRequest(assistant_id="steps", input={"name": "b", "steps": 1, "seconds": 0}),
        thread_id=thread.thread_id,
    )
    changes = {
        "unknown_graph": "graph_id = 'gone'",
        "kwargs_without_keys": "kwargs = '{}'",
        "kwargs_of_another_type": "kwargs = '[1]'",
    }
    async with container.database.connection() as connection:
        if change := changes.get(kind):
            await connection.execute(f"UPDATE lgs.run SET {change} WHERE run_id = %s", (run.run_id,))
        async with working(container), asyncio.timeout(PATIENCE):
            while not (await container.runs.get(ANONYMOUS, thread.thread_id, behind.run_id)).status.is_final:
                await asyncio.sleep(0.02)
        cursor = await connection.execute("SELECT * FROM lgs.run WHERE run_id = %s", (run.run_id,))
        row = await cursor.fetchone()
    assert row is not None
    assert (row["status"], row["attempt"]) == ("error", 1)
    assert row["error"]["error"] in error.split()
    assert (await container.runs.get(ANONYMOUS, thread.thread_id, behind.run_id)).status == "success"


async def test_what_a_worker_cannot_import_leaves_its_runs_waiting_and_what_exits_ends_at_once(
    cluster: Cluster,
) -> None:
    async with cluster.client() as client:
        thread_id = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread_id, "steps", input={"name": "a", "steps": 1, "seconds": 0})
        broken = cluster.worker(IMPORT="fails")
        until(lambda: not broken.running, "the worker to give up")
        assert "cannot be imported" in broken.output
        assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "pending"
        cluster.worker()
        assert (await client.runs.join(thread_id, run["run_id"]))["log"] == ["a1"]
        for graph in ("dying", "dying_in_a_thread"):
            answer = await client.runs.wait(None, graph, input={"name": "sys_exit"}, raise_error=False)
            assert answer["__error__"]["error"] == "SystemExit"
    assert {row["attempt"] for row in cluster.rows("SELECT attempt FROM lgs.run")} == {1}


@pytest.mark.slow
async def test_a_factory_that_dies_ends_its_run_as_well(cluster: Cluster) -> None:
    cluster.environ |= {"LEASE_DURATION_SECS": "1", "HEARTBEAT_INTERVAL_SECS": "0.25", "MAX_RUN_ATTEMPTS": "1"}
    async with cluster.client() as client, cluster.supervised(FACTORIES="die"):
        answer = await client.runs.wait(None, "dying_factory", input={"name": "exit"}, raise_error=False)
    assert answer["__error__"]["error"] == "RunAttemptsExhausted"
    assert answer["__error__"]["message"] == "The run lost its worker 1 times; it was not tried again."
    await assert_invariants(cluster.database_uri, worker=True)
