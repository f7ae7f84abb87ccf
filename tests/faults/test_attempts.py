"""What ends after its attempts: a node that is longer than the function (R5), and a cancel that nobody can carry out."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from worker_container import MakeContainer

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, Run, RunRequest, RunStatus
from langgraph_serverless.execution.runner import RunSignals
from langgraph_serverless.persistence.queue import QueueRepository

PROJECT = Path(__file__).parent / "project" / "langgraph.json"
QUICK = {
    "heartbeat_interval": 0.2,
    "lease_duration": 1.0,
    "poll_interval": 0.1,
    "sweep_interval": 0.1,
    "worker_deadline_margin": 2.1,
}


@pytest.fixture
async def container(worker_on: MakeContainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WorkerContainer:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    return await worker_on(PROJECT, **QUICK)


async def begin(container: WorkerContainer, **input: Any) -> Run:
    thread = await container.threads.create(ANONYMOUS)
    given = RunRequest(assistant_id="steps", input={"name": "a", "steps": 1, **input})
    return await container.runs.create(ANONYMOUS, given, thread_id=thread.thread_id)


async def row(container: WorkerContainer, run: Run) -> Any:
    async with container.database.connection() as connection:
        return await (
            await connection.execute(
                "SELECT r.*, t.status AS thread_status, t.error AS thread_error FROM lgs.thread t"
                " LEFT JOIN lgs.run r USING (thread_id) WHERE t.thread_id = %s",
                (run.thread_id,),
            )
        ).fetchone()


async def lost(container: WorkerContainer, *, execute: bool = False) -> int:
    """Claim what there is as a worker that dies with it; returns how many runs that was."""
    claims = await QueueRepository(container.database).claim(owner="dies", limit=10, lease=30)
    if execute:
        for claimed in claims:
            task = asyncio.create_task(container.runner.execute(claimed, signals := RunSignals()))
            async with asyncio.timeout(10):
                while not await _began(container, claimed.run):
                    await asyncio.sleep(0.02)
            signals.lose()
            await asyncio.wait([task])
    async with container.database.connection() as connection:
        await connection.execute(
            "UPDATE lgs.run SET lease_expires_at = now() - interval '1 second' WHERE lease_owner = 'dies'"
        )
    return len(claims)


async def _began(container: WorkerContainer, run: Run) -> bool:
    return await QueueRepository(container.database).nodes_in_flight(run.thread_id, run.run_id) == ["step"]


async def test_a_node_longer_than_the_function_ends_in_an_error_that_names_it(container: WorkerContainer) -> None:
    run = await begin(container, seconds=60)
    began = time.monotonic()
    for _ in range(3):
        until = time.monotonic() + 2.6  # half a second until the margin
        report = await container.worker().work(remaining=lambda until=until: until - time.monotonic())
        assert (report.reason, report.lost) == ("deadline", 1)
        async with asyncio.timeout(5):
            while not (swept := await container.queue.sweep()).requeued + swept.buried:
                await asyncio.sleep(0.05)
    ended = await row(container, run)
    assert (ended["status"], ended["thread_status"], ended["last_node"]) == ("error", "error", "step")
    assert ended["error"]["error"] == "RunAttemptsExhausted"
    assert "lost its worker 3 times while it executed the node 'step'" in ended["error"]["message"]
    assert time.monotonic() - began < 15


async def test_a_sweep_that_dies_while_it_ends_a_run_is_no_worker_that_the_run_has_lost(
    container: WorkerContainer,
) -> None:
    run = await begin(container, seconds=60)
    queue = QueueRepository(container.database)
    for number in (1, 2, 3):
        (claimed,) = await queue.claim(owner="dies", limit=1, lease=30)
        await queue.note_nodes(claimed.lease, [f"node {number}"])
        async with container.database.connection() as connection:
            await connection.execute("UPDATE lgs.run SET lease_expires_at = now() WHERE lease_owner = 'dies'")
        if number < 3:
            await queue.requeue_expired(max_attempts=3)
    (taken,) = await queue.claim_exhausted(owner="dies", lease=30, max_attempts=3)
    assert (taken.attempts, taken.nodes) == (3, ["node 3"])
    async with container.database.connection() as connection:
        await connection.execute("UPDATE lgs.run SET lease_expires_at = now() WHERE lease_owner = 'dies'")
    assert (await container.queue.sweep()).buried == 1
    ended = await row(container, run)
    assert "lost its worker 3 times while it executed the node 'node 3'" in ended["error"]["message"]


@pytest.mark.parametrize("action", list(CancelAction))
@pytest.mark.parametrize("begun", [False, True])
async def test_a_cancel_that_takes_its_workers_along_ends_as_well(
    container: WorkerContainer, action: CancelAction, begun: bool
) -> None:
    run = await begin(container, seconds=60)
    assert await lost(container, execute=begun) == 1
    await container.queue.sweep()
    await container.runs.cancel(ANONYMOUS, run.thread_id, [run.run_id], action, "taken")
    workers = 1
    async with asyncio.timeout(10):
        while claimed := await lost(container):
            workers += claimed
            await container.queue.sweep()
    assert workers == 4, "the attempts, and one more in order to end"
    ended = await row(container, run)
    if action is CancelAction.ROLLBACK:
        assert ended["run_id"] is None
        assert (ended["thread_status"], ended["thread_error"]["error"]) == ("idle", "UserRollback")
    else:
        assert RunStatus(ended["status"]) is RunStatus.INTERRUPTED
        assert ended["thread_status"] == ("interrupted" if begun else "idle")
        assert ended["thread_error"]["error"] == "UserInterrupt"
