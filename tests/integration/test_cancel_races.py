"""Cancels that meet a hand-off, a lost worker or a claim, and what a cancel leaves of a stateless run."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from worker_container import MakeContainer

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, Durability, MultitaskStrategy, Run, RunRequest, RunStatus
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queue import HAND_OFF, QueueRepository
from langgraph_serverless.services.taking import Taker

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"
QUICK = {"heartbeat_interval": 0.1, "lease_duration": 1.5, "poll_interval": 0.3, "shutdown_grace": 2.0}


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(PROJECT))


@pytest.fixture
async def container(worker_on: MakeContainer, registry: GraphRegistry) -> WorkerContainer:
    return await worker_on(registry, **QUICK)


async def rows(connection: Connection, query: str, *parameters: Any) -> list[dict[str, Any]]:
    return await (await connection.execute(query, parameters)).fetchall()


async def one(container: WorkerContainer, query: str, *parameters: Any) -> dict[str, Any] | None:
    async with container.database.connection() as connection:
        found = await rows(connection, query, *parameters)
    return found[0] if found else None


async def until(condition: Any, seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := await condition():
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("did not happen in time")


async def worked(container: WorkerContainer, done: Any) -> None:
    """Have a worker there until this has happened."""
    worker = container.worker()
    task = asyncio.create_task(worker.work())
    try:
        await until(done)
    finally:
        worker.stop()
        await asyncio.wait_for(task, 10)


async def handed_off(container: WorkerContainer, thread_id: uuid.UUID, request: RunRequest, steps: int) -> Run:
    """A run that a worker has given back after some supersteps."""
    run = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)

    async def begun() -> bool:
        count = "SELECT count(*) AS n FROM checkpoints WHERE metadata ->> 'run_id' = %s"
        row = await one(container, count, str(run.run_id))
        return row is not None and row["n"] > steps

    await worked(container, begun)
    assert (await container.runs.get(ANONYMOUS, thread_id, run.run_id)).resuming
    return run


@pytest.fixture
async def thread_id(container: WorkerContainer) -> uuid.UUID:
    thread_id = new_id()
    async with container.database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
    return thread_id


LONG = RunRequest(
    assistant_id="slow_steps", input={"log": ["long"], "count": 1000}, durability=Durability.SYNC, metadata={"n": 1}
)


@pytest.mark.parametrize("strategy", [MultitaskStrategy.INTERRUPT, MultitaskStrategy.ROLLBACK])
async def test_a_predecessor_whose_worker_has_died_makes_way(
    container: WorkerContainer, thread_id: uuid.UUID, strategy: MultitaskStrategy
) -> None:
    dead = await container.runs.create(ANONYMOUS, LONG, thread_id=thread_id)
    assert await QueueRepository(container.database).claim(owner="dead", limit=1, lease=0)
    request = RunRequest(assistant_id="steps", input={"log": ["new"], "count": 1}, multitask_strategy=strategy)
    new = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)

    async def over() -> bool:
        return bool(await one(container, "SELECT 1 FROM lgs.run WHERE run_id = %s AND status = 'success'", new.run_id))

    await worked(container, over)
    left = await one(container, "SELECT status, error FROM lgs.run WHERE run_id = %s", dead.run_id)
    if strategy is MultitaskStrategy.ROLLBACK:
        assert left is None
    else:
        assert left is not None
        assert left["status"] == "interrupted"
        assert left["error"]["message"] == f"superseded by run {new.run_id} (multitask_strategy=interrupt)"
    values = await one(container, "SELECT channel_values AS v FROM lgs.thread WHERE thread_id = %s", thread_id)
    assert values == {"v": {"log": ["new", "step"], "count": 0}}


@pytest.mark.parametrize("how", ["strategy", "by status"])
async def test_a_cancel_that_waits_for_a_hand_off_is_not_lost(
    container: WorkerContainer, thread_id: uuid.UUID, how: str
) -> None:
    run = await container.runs.create(ANONYMOUS, LONG, thread_id=thread_id)
    [claimed] = await QueueRepository(container.database).claim(owner="w", limit=1, lease=30)
    assert claimed.lease.run_id == run.run_id, "another test has left a run"
    async with container.database.transaction() as connection:
        await connection.execute(HAND_OFF, {"run_id": run.run_id, "token": claimed.lease.token})
        if how == "strategy":
            request = RunRequest(
                assistant_id="steps", input={"count": 0}, multitask_strategy=MultitaskStrategy.INTERRUPT
            )
            cancelling: Any = container.runs.create(ANONYMOUS, request, thread_id=thread_id)
        else:
            cancelling = container.runs.cancel_by_status(ANONYMOUS, "all", CancelAction.INTERRUPT, "test")
        task = asyncio.ensure_future(cancelling)

        async def waits() -> bool:
            assert not task.done(), f"it has not waited: {task!r}"
            return bool(await one(container, "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype <> 'relation'"))

        await until(waits)
    await task
    row = await one(container, "SELECT status, cancel_action FROM lgs.run WHERE run_id = %s", run.run_id)
    assert row is not None
    assert row["cancel_action"] == "interrupt", f"the run goes on: {row}"

    async def over() -> bool:
        # the successor too: what is left here would be claimed by the next test
        states = "SELECT array_agg(status) AS s FROM lgs.run WHERE thread_id = %s"
        row = await one(container, states, thread_id)
        return row is not None and "interrupted" in row["s"] and not {"pending", "running"} & set(row["s"])

    await worked(container, over)
    row = await one(container, "SELECT status FROM lgs.run WHERE run_id = %s", run.run_id)
    assert row == {"status": "interrupted"}


async def test_a_rollback_between_two_workers_leaves_no_checkpoint(
    container: WorkerContainer, thread_id: uuid.UUID
) -> None:
    first = RunRequest(assistant_id="steps", input={"log": ["first"], "count": 0})
    await container.runs.create(ANONYMOUS, first, thread_id=thread_id)
    run = await handed_off(container, thread_id, LONG, steps=2)
    cancelled = await container.runs.cancel(ANONYMOUS, thread_id, [run.run_id], CancelAction.ROLLBACK, "test")
    assert cancelled == [run.run_id]

    async def gone() -> bool:
        return await one(container, "SELECT 1 FROM lgs.run WHERE run_id = %s", run.run_id) is None

    await worked(container, gone)
    left = await one(container, "SELECT 1 FROM checkpoints WHERE metadata ->> 'run_id' = %s", str(run.run_id))
    assert left is None, "the thread's state still has what was rolled back"
    assert (await one(container, "SELECT status FROM lgs.thread WHERE thread_id = %s", thread_id)) == {"status": "idle"}


async def test_an_interrupt_between_two_workers_keeps_what_was_done(
    container: WorkerContainer, thread_id: uuid.UUID
) -> None:
    run = await handed_off(container, thread_id, LONG, steps=2)
    await container.runs.cancel(ANONYMOUS, thread_id, [run.run_id], CancelAction.INTERRUPT, "test")

    async def over() -> bool:
        result = await container.runs.result(run.run_id)
        return result is not None and result.status is RunStatus.INTERRUPTED

    await worked(container, over)
    thread = await one(container, "SELECT status, channel_values FROM lgs.thread WHERE thread_id = %s", thread_id)
    assert thread is not None
    assert thread["status"] == "interrupted"
    assert thread["channel_values"]["log"][:2] == ["long", "step"]


@pytest.mark.parametrize("how", ["interrupt", "rollback", "delete"])
async def test_the_thread_of_a_stateless_run_goes_with_it_however_it_ends(container: WorkerContainer, how: str) -> None:
    request = RunRequest(assistant_id="steps", input={"count": 0}, on_completion="delete")
    run = await container.runs.create(ANONYMOUS, request, thread_id=None)
    if how == "delete":
        await container.runs.delete(ANONYMOUS, run.thread_id, run.run_id)
    else:
        await container.runs.cancel(ANONYMOUS, run.thread_id, [run.run_id], CancelAction(how), "test")
    row = await one(container, "SELECT purge_at, status FROM lgs.thread WHERE thread_id = %s", run.thread_id)
    assert row is not None
    assert row["purge_at"] is not None, "nobody will ever delete it"


async def test_a_cancel_that_overtakes_the_answer_to_a_claim_is_not_missed(
    worker_on: MakeContainer, registry: GraphRegistry, thread_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message comes while the run is claimed and its worker does not know it yet; the next heartbeat is far away."""
    container = await worker_on(registry, heartbeat_interval=60.0, lease_duration=180.0, poll_interval=0.3)
    look, hear, heard = QueueRepository.look, Taker.hear, asyncio.Event()

    def noticed(taker: Taker) -> None:
        hear(taker)
        heard.set()

    async def overtaken(queue: QueueRepository, **arguments: Any) -> Any:
        found = await look(queue, **arguments)
        for claimed in found.runs:
            run = claimed.run
            async with asyncio.timeout(10):
                while not heard.is_set():  # the worker may not listen yet
                    await container.runs.cancel(
                        ANONYMOUS, thread_id, [run.run_id], CancelAction.INTERRUPT, "overtaking"
                    )
                    await asyncio.sleep(0.02)
        return found

    monkeypatch.setattr(Taker, "hear", noticed)
    monkeypatch.setattr(QueueRepository, "look", overtaken)
    request = RunRequest(assistant_id="wait", input={"seconds": 60, "log": []})
    run = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)

    async def over() -> bool:
        result = await container.runs.result(run.run_id)
        return result is not None and result.status is RunStatus.INTERRUPTED

    await worked(container, over)


@pytest.mark.parametrize("action", [CancelAction.INTERRUPT, CancelAction.ROLLBACK])
async def test_a_run_that_is_cancelled_between_its_claim_and_its_first_node_starts_none(
    container: WorkerContainer, thread_id: uuid.UUID, action: CancelAction, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = asyncio.Event()

    async def for_ever(tenant: str) -> Any:
        opening.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(container.runner, "_store", for_ever)
    run = await container.runs.create(ANONYMOUS, LONG, thread_id=thread_id)

    async def cancel() -> None:
        await opening.wait()
        await container.runs.cancel(ANONYMOUS, thread_id, [run.run_id], action, "test")

    async def over() -> bool:
        row = await one(container, "SELECT status FROM lgs.run WHERE run_id = %s", run.run_id)
        return row is None or row["status"] == "interrupted"

    cancelling = asyncio.create_task(cancel())
    await worked(container, over)
    await cancelling
    written = await one(container, "SELECT 1 FROM checkpoints WHERE thread_id = %s", str(thread_id))
    assert written is None
    thread = await one(container, "SELECT status FROM lgs.thread WHERE thread_id = %s", thread_id)
    assert thread == {"status": "idle"}
