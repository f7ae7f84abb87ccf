"""What the model of docs/design/protocol found: cancels that meet a run's end, and events of a run that was deleted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from worker_container import MakeContainer

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, Run, RunRequest
from langgraph_serverless.errors import LeaseLostError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.persistence.queue import SETTLE, QueueRepository

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(PROJECT))


@pytest.fixture
async def container(worker_on: MakeContainer, registry: GraphRegistry) -> WorkerContainer:
    # heartbeats are rare, so that no worker hears of a cancel before it settles
    return await worker_on(registry, poll_interval=0.3)


async def one(container: WorkerContainer, query: str, *parameters: Any) -> dict[str, Any] | None:
    async with container.database.connection() as connection:
        return await (await connection.execute(query, parameters)).fetchone()


async def until(condition: Any, seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := await condition():
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("did not happen in time")


async def new_run(container: WorkerContainer, graph: str = "steps") -> Run:
    thread_id = new_id()
    async with container.database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
    request = RunRequest(assistant_id=graph, input={"log": [], "count": 1})
    return await container.runs.create(ANONYMOUS, request, thread_id=thread_id)


async def over(container: WorkerContainer, run: Run) -> Any:
    """The run's status in its row, ``gone`` if it has none."""

    async def look() -> str | None:
        row = await one(container, "SELECT status FROM lgs.run WHERE run_id = %s", run.run_id)
        status = row["status"] if row else "gone"
        return None if status in {"pending", "running"} else status

    return await until(look)


@pytest.mark.parametrize(
    ("graph", "actions", "end"),
    [
        ("steps", [CancelAction.INTERRUPT], "interrupted"),
        ("steps", [CancelAction.ROLLBACK], "gone"),
        ("steps", [CancelAction.INTERRUPT, CancelAction.ROLLBACK], "gone"),
        ("fail", [CancelAction.INTERRUPT], "error"),
        ("fail", [CancelAction.ROLLBACK], "gone"),
    ],
)
async def test_a_cancel_recorded_before_the_end_decides_it(
    container: WorkerContainer, monkeypatch: pytest.MonkeyPatch, graph: str, actions: list[CancelAction], end: str
) -> None:
    """The outcome is there, and not written yet; no heartbeat tells the worker of the cancel that was acknowledged."""
    settling, go_on = asyncio.Event(), asyncio.Event()
    settle = QueueRepository.settle

    async def settle_late(*arguments: Any, **options: Any) -> Any:
        settling.set()
        await go_on.wait()
        return await settle(*arguments, **options)

    monkeypatch.setattr(QueueRepository, "settle", settle_late)
    monkeypatch.setattr(container.bell, "cancel", lambda run_ids: asyncio.sleep(0))
    run = await new_run(container, graph)
    worker = container.worker()
    task = asyncio.create_task(worker.work())
    try:
        await asyncio.wait_for(settling.wait(), 10)
        for action in actions:
            await container.runs.cancel(ANONYMOUS, run.thread_id, [run.run_id], action, "late")
        go_on.set()
        assert await over(container, run) == end
    finally:
        go_on.set()
        worker.stop()
        await asyncio.wait_for(task, 10)
    thread = await one(container, "SELECT status, error FROM lgs.thread WHERE thread_id = %s", run.thread_id)
    kept = await one(container, "SELECT count(*) AS n FROM checkpoints WHERE thread_id = %s", str(run.thread_id))
    assert thread is not None
    assert kept is not None
    if end == "gone":
        assert (thread["status"], thread["error"]["error"], kept["n"]) == ("idle", "UserRollback", 0)
    elif end == "interrupted":
        assert (thread["status"], thread["error"]["error"]) == ("idle", "UserInterrupt")
    else:
        assert thread["status"] == "error"


async def test_a_rollback_is_not_lost_to_who_gives_a_run_up(
    container: WorkerContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is recorded between the two statements that end a run without a worker."""
    run = await new_run(container)
    queue = QueueRepository(container.database)
    end_of = container.queue._end_of

    async def meanwhile(exhausted: Any) -> Any:
        end = await end_of(exhausted)
        monkeypatch.undo()
        await container.runs.cancel(ANONYMOUS, run.thread_id, [run.run_id], CancelAction.ROLLBACK, "test")
        return end

    for _ in range(container.settings.max_attempts):
        await container.queue.sweep()
        [claimed] = await queue.claim(owner="doomed", limit=1, lease=30)
        assert claimed.run.run_id == run.run_id
        async with container.database.connection() as connection:
            await connection.execute(
                "UPDATE lgs.run SET lease_expires_at = now() - interval '1 second' WHERE run_id = %s", (run.run_id,)
            )
    monkeypatch.setattr(container.queue, "_end_of", meanwhile)
    assert (await container.queue.sweep()).buried == 1
    assert await over(container, run) == "gone"
    thread = await one(container, "SELECT status, error FROM lgs.thread WHERE thread_id = %s", run.thread_id)
    assert thread is not None
    assert (thread["status"], thread["error"]["error"]) == ("idle", "UserRollback")


async def test_a_deleted_run_takes_no_more_events(container: WorkerContainer) -> None:
    """Its worker does not know yet, and its epoch was the newest one."""
    run = await new_run(container)
    [claimed] = await QueueRepository(container.database).claim(owner="zombie", limit=1, lease=30)
    assert container.event_log is not None
    await container.event_log.append(claimed.lease, [Event("values", b"{}")])
    await container.runs.delete(ANONYMOUS, run.thread_id, run.run_id)
    with pytest.raises(LeaseLostError):
        await container.event_log.append(claimed.lease, [Event("values", b"{}")])
    assert await container.runs.result(run.run_id) is None


def test_what_may_be_large_is_sent_once() -> None:
    """Parameters are part of the message (``in_one_message``), each as often as it is named."""
    assert {name: SETTLE.count(f"%({name})s") for name in ("values", "output", "interrupts")} == {
        "values": 1,
        "output": 1,
        "interrupts": 1,
    }
