"""Deleting a run takes along what it has written, and nothing that others need."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from worker_container import MakeContainer, working

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, Durability, Lease, Run, RunRequest
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.persistence.fenced_saver import FencedSaver

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"
TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(PROJECT))


@pytest.fixture
async def container(worker_on: MakeContainer, registry: GraphRegistry, clean_database: None) -> WorkerContainer:
    return await worker_on(registry, poll_interval=0.2)


async def rows(container: WorkerContainer, query: Any, *parameters: Any) -> list[dict[str, Any]]:
    async with container.database.connection() as connection:
        cursor = await connection.execute(query, parameters)
        return await cursor.fetchall() if cursor.description else []


async def runs_on_one_thread(container: WorkerContainer, *inputs: dict[str, Any]) -> list[Run]:
    """Runs that have ended, one after the other."""
    thread_id = new_id()
    await rows(container, "INSERT INTO lgs.thread (thread_id) VALUES (%s)", thread_id)
    made = [
        await container.runs.create(ANONYMOUS, RunRequest(assistant_id="steps", input=each), thread_id=thread_id)
        for each in inputs
    ]
    await until_ended(container)
    return made


async def until_none(container: WorkerContainer, *statuses: str) -> None:
    async with asyncio.timeout(10):
        while await rows(container, "SELECT 1 FROM lgs.run WHERE status = ANY(%s)", list(statuses)):
            await asyncio.sleep(0.02)


async def until_ended(container: WorkerContainer) -> None:
    async with working(container):
        await until_none(container, "pending", "running")


async def state(container: WorkerContainer, run: Run) -> Any:
    saver = FencedSaver(await container.database.pool(), Lease(run_id=run.run_id, token=uuid.uuid4(), epoch=1))
    found = await saver.aget_tuple({"configurable": {"thread_id": str(run.thread_id)}})
    return found and found.checkpoint["channel_values"]


async def test_the_last_run_leaves_the_state_before_it(container: WorkerContainer) -> None:
    first, last = await runs_on_one_thread(container, {"log": ["one"], "count": 1}, {"log": ["two"], "count": 1})
    await container.runs.delete(ANONYMOUS, last.thread_id, last.run_id)
    assert (await state(container, first))["log"] == ["one", "step"]
    await container.runs.delete(ANONYMOUS, first.thread_id, first.run_id)
    assert await state(container, first) is None
    for table in TABLES:
        assert await rows(container, f"SELECT 1 FROM {table}") == []


async def test_values_of_an_earlier_run_that_a_later_one_holds_stay(container: WorkerContainer) -> None:
    # the second run writes count and not log, so its checkpoints point at the first one's log
    first, second = await runs_on_one_thread(container, {"log": ["one"], "count": 0}, {"count": 0})
    before = await state(container, second)
    assert before["log"] == ["one"]
    await container.runs.delete(ANONYMOUS, first.thread_id, first.run_id)
    assert await state(container, second) == before
    left = await rows(container, "SELECT DISTINCT metadata ->> 'run_id' AS run_id FROM checkpoints")
    assert [row["run_id"] for row in left] == [str(second.run_id)]


async def test_on_a_thread_with_delta_channels_an_earlier_runs_checkpoints_stay(container: WorkerContainer) -> None:
    first, second = await runs_on_one_thread(container, {"log": ["one"], "count": 1}, {"count": 1})
    await rows(
        container,
        """UPDATE checkpoints SET metadata = metadata || '{"counters_since_delta_snapshot": {"log": 1}}'
           WHERE metadata ->> 'run_id' = %s""",
        str(second.run_id),
    )
    counted = await rows(container, "SELECT count(*) AS n FROM checkpoints")
    await container.runs.delete(ANONYMOUS, first.thread_id, first.run_id)
    assert await rows(container, "SELECT count(*) AS n FROM checkpoints") == counted
    assert await rows(container, "SELECT 1 FROM lgs.run WHERE run_id = %s", first.run_id) == []


async def remember(container: WorkerContainer, run: Run) -> None:
    """As if the run had called a subgraph with ``checkpointer=True``: it has one namespace, whatever run calls it."""
    await rows(
        container,
        """INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata, lease_token)
           SELECT thread_id, 'child', checkpoint_id, checkpoint, metadata, lease_token FROM checkpoints
           WHERE metadata ->> 'run_id' = %s ORDER BY checkpoint_id DESC LIMIT 1""",
        str(run.run_id),
    )


async def test_the_memory_of_a_subgraph_stays_with_the_run_that_called_it_last(container: WorkerContainer) -> None:
    first, second, third = await runs_on_one_thread(container, *[{"log": ["in"], "count": 1}] * 3)
    await remember(container, first)
    await remember(container, second)
    memory = "SELECT checkpoint_id FROM checkpoints WHERE checkpoint_ns = 'child' ORDER BY 1"
    before = await rows(container, memory)
    # the third did not call it and finds what the second left; what the first left nobody looks at any more
    await container.runs.delete(ANONYMOUS, second.thread_id, second.run_id)
    assert await rows(container, memory) == before
    await container.runs.delete(ANONYMOUS, first.thread_id, first.run_id)
    assert await rows(container, memory) == before[1:]
    # with the last one the thread is where it was before all of them, as far as anybody can tell
    await container.runs.delete(ANONYMOUS, third.thread_id, third.run_id)
    assert (await state(container, first))["log"] == ["in", "step", "in", "step"]


async def test_what_a_run_has_begun_with_stays(container: WorkerContainer) -> None:
    (first,) = await runs_on_one_thread(container, {"log": ["one"], "count": 1})
    # it saves at its end only, and of the log, which it does not write, only a reference
    request = RunRequest(assistant_id="wait", input={"seconds": 60.0}, durability=Durability.EXIT)
    second = await container.runs.create(ANONYMOUS, request, thread_id=first.thread_id)
    async with working(container):
        await until_none(container, "pending")
        await container.runs.delete(ANONYMOUS, first.thread_id, first.run_id)
        await container.runs.cancel(ANONYMOUS, first.thread_id, [second.run_id], CancelAction.INTERRUPT, "enough")
        await until_none(container, "running")
    assert (await state(container, second))["log"] == ["one", "step"]


async def test_a_thread_that_still_asks_can_be_answered(container: WorkerContainer) -> None:
    thread_id = new_id()
    await rows(container, "INSERT INTO lgs.thread (thread_id) VALUES (%s)", thread_id)

    async def run(**request: Any) -> Run:
        made = await container.runs.create(ANONYMOUS, RunRequest(assistant_id="ask", **request), thread_id=thread_id)
        await until_ended(container)
        return made

    first = await run(input={"log": ["in"], "kind": "twice"})
    # its answer and the second question belong to the checkpoint of the first run
    await run(command={"resume": "yes"})
    await container.runs.delete(ANONYMOUS, thread_id, first.run_id)
    last = await run(command={"resume": "really"})
    assert (await state(container, last))["log"] == ["in", "asked: really"]
    await container.runs.delete(ANONYMOUS, thread_id, last.run_id)
