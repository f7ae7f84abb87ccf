"""Runs that take too long, and nodes that hold the event loop so that nothing can end their run from within."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cluster import PROJECT, Cluster
from dev_server import PATIENCE, SHORT_LEASES, MakeServer
from worker_container import MakeContainer, working
from workload import RECONNECTING, MakeWorkload, assert_invariants

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import RunRequest
from langgraph_serverless.persistence.queue import QueueRepository

QUICK = {"LEASE_DURATION_SECS": "1", "HEARTBEAT_INTERVAL_SECS": "0.25"}

pytestmark = [pytest.mark.timeout(120), *map(pytest.mark.filterwarnings, RECONNECTING)]


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


def row(cluster: Any, run_id: str) -> Any:
    return cluster.rows(
        "SELECT r.*, t.status AS thread_status, t.error AS thread_error FROM lgs.run r JOIN lgs.thread t USING (thread_id)"
        " WHERE run_id = %s",
        (run_id,),
    )[0]


# -- what a client sees --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", ["steps", "called_and_waiting"])
async def test_a_run_that_takes_too_long_ends_in_timeout(cluster: Cluster, graph: str) -> None:
    cluster.worker(BG_JOB_TIMEOUT_SECS="1")
    async with cluster.client() as client:
        thread_id = (await client.threads.create())["thread_id"]
        given = {"input": {"name": "a", "steps": 1, "seconds": 60}, "durability": "sync"}
        parts = [part async for part in client.runs.stream(thread_id, graph, **given, stream_mode="values")]
        (run,) = await client.runs.list(thread_id)
        thread = await client.threads.get(thread_id)
        answer = await client.runs.wait(None, graph, **given, raise_error=False)
    failure = {"error": "TimeoutError", "message": "The run took longer than 1 seconds."}
    assert (run["status"], thread["status"]) == ("timeout", "error")
    assert (parts[-1].event, parts[-1].data) == ("error", failure)
    assert answer == {"__error__": failure}
    assert row(cluster, run["run_id"])["last_node"] == {"steps": "step", "called_and_waiting": "call"}[graph]
    await assert_invariants(cluster.database_uri, worker=True)


# -- over attempts and hand-offs -----------------------------------------------------------------------------------


async def lost(container: WorkerContainer) -> None:
    await QueueRepository(container.database).claim(owner="dies", limit=1, lease=30)
    async with container.database.connection() as connection:
        await connection.execute(
            "UPDATE lgs.run SET lease_expires_at = now() - interval '1 second' WHERE status = 'running'"
        )
    await container.queue.sweep()


async def handed_on(container: WorkerContainer) -> None:
    queue = QueueRepository(container.database)
    (claimed,) = await queue.claim(owner="leaves", limit=1, lease=30)
    await queue.hand_off(claimed.lease)


@pytest.mark.usefixtures("clean_database")  # whoever claims here gets this run
@pytest.mark.parametrize("before", [lost, handed_on])
@pytest.mark.parametrize("graph", ["steps", "dying_factory"])
async def test_the_time_goes_on_while_a_run_waits_for_its_next_worker(
    worker_on: MakeContainer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    before: Callable[[WorkerContainer], Awaitable[None]],
    graph: str,
) -> None:
    monkeypatch.setenv("JOURNAL", str(journal := tmp_path / "journal"))
    container = await worker_on(PROJECT, run_timeout=60)
    thread = await container.threads.create(ANONYMOUS)
    given = RunRequest(assistant_id=graph, input={"name": "wait", "steps": 1, "seconds": 60})
    run = await container.runs.create(ANONYMOUS, given, thread_id=thread.thread_id)
    await before(container)
    async with container.database.connection() as connection:
        await connection.execute(
            "UPDATE lgs.run SET started_at = started_at - interval '61 seconds' WHERE run_id = %s", (run.run_id,)
        )
    async with working(container), asyncio.timeout(PATIENCE):
        while not (await container.runs.get(ANONYMOUS, thread.thread_id, run.run_id)).status.is_final:
            await asyncio.sleep(0.02)
    assert (await container.runs.get(ANONYMOUS, thread.thread_id, run.run_id)).status == "timeout"
    assert not journal.exists(), "its node did not begin once more"


# -- nodes that hold the loop --------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_node_that_holds_the_loop_for_ever_ends_in_timeout(cluster: Cluster) -> None:
    cluster.environ |= QUICK | {"BG_JOB_TIMEOUT_SECS": "3"}
    async with cluster.client() as client, cluster.supervised():
        answer = await client.runs.wait(None, "dying", input={"name": "wait"}, raise_error=False)
    assert answer == {"__error__": {"error": "TimeoutError", "message": "The run took longer than 3 seconds."}}
    (ended,) = cluster.rows("SELECT * FROM lgs.run")
    assert (ended["status"], ended["attempt"]) == ("timeout", 2)
    assert len(cluster.journal.read_text().splitlines()) == 1, "it did not begin again"
    await assert_invariants(cluster.database_uri, worker=True)


@pytest.mark.slow
async def test_a_node_that_holds_the_loop_again_and_again_ends_in_an_error_that_names_it_and_others_succeed(
    cluster: Cluster, workload_on: MakeWorkload
) -> None:
    cluster.environ |= QUICK | {"WORKER_STALL_LIMIT_SECS": "1.5"}
    workload = workload_on(cluster)
    async with cluster.supervised():
        await workload.start(single=3, queued=2)
        await workload.under_way(3)
        wedged = await workload.client.runs.create(None, "dying", input={"name": "wait"}, durability="exit")
        await workload.all_right()
        await until(lambda: row(cluster, wedged["run_id"])["finished_at"] is not None, "the end")
    ended = row(cluster, wedged["run_id"])
    assert (ended["status"], ended["last_node"], ended["error"]["error"]) == ("error", "die", "RunAttemptsExhausted")
    assert {run["attempt"] for run in workload.rows().values()} == {1}, "they were given back"
    assert sum(line[1] == "poison" for line in workload.lines()) == 3
    assert "where=" in cluster.workers[0].output
    assert "dying.py" in cluster.workers[0].output
    await assert_invariants(cluster.database_uri, worker=True)


@pytest.mark.parametrize("action", ["interrupt", pytest.param("rollback", marks=pytest.mark.slow)])
async def test_a_cancel_of_a_run_that_holds_the_loop_is_final_soon(cluster: Cluster, action: Any) -> None:
    cluster.environ |= QUICK
    async with cluster.client() as client, cluster.supervised():
        thread_id = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread_id, "dying", input={"name": "wait"}, durability="sync")
        await until(cluster.journal.exists, "the node")
        await client.runs.cancel(thread_id, run["run_id"], action=action, wait=True)
        thread = await client.threads.get(thread_id)
        assert thread["status"] == ("interrupted" if action == "interrupt" else "idle")
        assert [each["status"] for each in await client.runs.list(thread_id)] == (
            ["interrupted"] if action == "interrupt" else []
        )
    assert len(cluster.journal.read_text().splitlines()) == 1, "it did not begin again"
    await assert_invariants(cluster.database_uri, worker=True)


@pytest.mark.slow
async def test_a_node_that_holds_the_loop_for_some_time_is_left_alone(
    cluster: Cluster, workload_on: MakeWorkload
) -> None:
    worker = cluster.worker(**QUICK)
    workload = workload_on(cluster, seconds=0.5)
    await workload.start(single=2)
    answer = await workload.client.runs.wait(None, "holding", input={"seconds": 3})
    assert answer["log"] == ["held"]
    await workload.all_right()
    assert {run["attempt"] for run in workload.rows().values()} == {1}
    assert "a node holds the event loop" in worker.output
    assert "lease lost" not in worker.output


@pytest.mark.slow
async def test_a_laptop_goes_on_after_a_node_that_holds_the_loop(dev_servers: MakeServer, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    server = dev_servers(PROJECT, JOURNAL=str(journal), BG_JOB_TIMEOUT_SECS="3", **SHORT_LEASES | QUICK)
    async with server.client() as client:
        thread_id = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread_id, "dying", input={"name": "wait"})
        await until(journal.exists, "the node")
        await until(lambda: "The server ended by itself" in server.output, "the end of the server")
        await until(lambda: row(server, run["run_id"])["finished_at"] is not None, "the end")
        assert row(server, run["run_id"])["status"] == "timeout"
    assert len(journal.read_text().splitlines()) == 1
