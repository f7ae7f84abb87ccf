"""The life of a run against real Postgres and Valkey: created by the service, executed by a worker, seen in its rows and
its event log. No HTTP."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from worker_container import MakeContainer, working

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.events import Event, is_gap
from langgraph_serverless.domain.ids import default_assistant_id, new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import (
    CancelAction,
    Durability,
    MultitaskStrategy,
    RunRequest,
    RunStatus,
    StreamMode,
)
from langgraph_serverless.errors import ConflictError, LeaseLostError, NotFoundError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.persistence.fenced_saver import FencedSaver
from langgraph_serverless.persistence.queue import QueueRepository

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"
QUICK = {
    "heartbeat_interval": 0.1,
    "lease_duration": 1.5,
    "poll_interval": 0.3,
    "sweep_interval": 0.2,
    "shutdown_grace": 2.0,
}


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(PROJECT))


@pytest.fixture
async def container(worker_on: MakeContainer, registry: GraphRegistry) -> WorkerContainer:
    return await worker_on(registry, **QUICK)


async def new_thread(container: WorkerContainer) -> uuid.UUID:
    thread_id = new_id()
    async with container.database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
    return thread_id


async def thread_row(container: WorkerContainer, thread_id: uuid.UUID) -> dict[str, Any]:
    async with container.database.connection() as connection:
        cursor = await connection.execute("SELECT * FROM lgs.thread WHERE thread_id = %s", (thread_id,))
        row = await cursor.fetchone()
    assert row is not None
    return row


async def until(condition: Any, seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (found := await condition()) is not None and found is not False:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("did not happen in time")


async def finished(container: WorkerContainer, run_id: uuid.UUID, seconds: float = 10) -> Any:
    async def look() -> Any:
        result = await container.runs.result(run_id)
        return result if result is not None and result.status.is_final else None

    return await until(look, seconds)


async def started(container: WorkerContainer, run_id: uuid.UUID) -> None:
    async def look() -> bool:
        result = await container.runs.result(run_id)
        return result is not None and result.status is RunStatus.RUNNING

    await until(look)


async def logged(container: WorkerContainer, run_id: uuid.UUID) -> list[tuple[str, Any]]:
    """The run's events up to the end marker."""
    events: list[tuple[str, Any]] = []
    assert container.event_hub is not None
    async with asyncio.timeout(10), aclosing(container.event_hub.read(run_id, "0-0")) as batches:
        async for batch in batches:
            for event in batch:
                if event.is_end:
                    return events
                if not is_gap(event):
                    events.append((event.name, json.loads(event.data)))
    raise AssertionError("no end marker")


async def test_a_run_on_a_thread_leaves_output_values_and_events(container: WorkerContainer) -> None:
    thread_id = await new_thread(container)
    request = RunRequest(
        assistant_id="steps",
        input={"log": ["in"], "count": 2},
        stream_mode=(StreamMode.VALUES, StreamMode.UPDATES, StreamMode.CUSTOM),
        metadata={"m": 1},
    )
    run = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)
    assert run.status is RunStatus.PENDING
    assert (await thread_row(container, thread_id))["status"] == "busy"
    async with working(container):
        result = await finished(container, run.run_id)
        events = await logged(container, run.run_id)
    assert result.status is RunStatus.SUCCESS
    assert result.output == {"log": ["in", "step", "step"], "count": 0}
    thread = await thread_row(container, thread_id)
    assert (thread["status"], thread["channel_values"]) == ("idle", {"log": ["in", "step", "step"], "count": 0})
    assert thread["metadata"] == {"graph_id": "steps", "assistant_id": str(default_assistant_id("steps"))}
    names = [name for name, _ in events]
    assert names == ["metadata", "values", "custom", "updates", "values", "custom", "updates", "values"]
    assert events[0][1] == {"run_id": str(run.run_id), "attempt": 1}


async def test_a_stateless_run_hides_its_thread_and_keeps_its_result(container: WorkerContainer) -> None:
    run = await container.runs.create(
        ANONYMOUS, RunRequest(assistant_id="steps", input={"log": [], "count": 1}), thread_id=None
    )
    async with working(container):
        result = await finished(container, run.run_id)
    assert result.output == {"log": ["step"], "count": 0}
    assert result.hidden
    assert await container.runs.find(ANONYMOUS, None, run.run_id) is None


async def test_interrupt_and_resume(container: WorkerContainer) -> None:
    thread_id = await new_thread(container)
    async with working(container):
        run = await container.runs.create(
            ANONYMOUS, RunRequest(assistant_id="ask", input={"log": []}), thread_id=thread_id
        )
        result = await finished(container, run.run_id)
        assert result.status is RunStatus.SUCCESS
        [interrupt] = result.output["__interrupt__"]
        assert interrupt["value"] == {"question": "go on?"}
        thread = await thread_row(container, thread_id)
        assert thread["status"] == "interrupted"
        [waiting] = thread["interrupts"].values()
        assert waiting == [{"id": interrupt["id"], "value": {"question": "go on?"}}]

        request = RunRequest(assistant_id="ask", command={"resume": "yes"})
        run = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)
        result = await finished(container, run.run_id)
    assert result.output == {"log": ["asked: yes"]}
    thread = await thread_row(container, thread_id)
    assert (thread["status"], thread["interrupts"]) == ("idle", {})


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("ValueError", "wrong: ValueError"), ("CustomError", "An internal error occurred")],
)
async def test_a_failing_graph_ends_in_error_with_a_masked_text(
    container: WorkerContainer, kind: str, shown: str
) -> None:
    thread_id = await new_thread(container)
    async with working(container):
        run = await container.runs.create(
            ANONYMOUS, RunRequest(assistant_id="fail", input={"kind": kind}), thread_id=thread_id
        )
        result = await finished(container, run.run_id)
        events = await logged(container, run.run_id)
    assert result.status is RunStatus.ERROR
    assert result.output == {"__error__": {"error": kind, "message": shown}}
    assert events[-1] == ("error", {"error": kind, "message": shown})
    thread = await thread_row(container, thread_id)
    assert (thread["status"], thread["error"]) == ("error", {"error": kind, "message": shown})


async def test_runs_of_one_thread_take_turns_and_of_ten_threads_run_at_once(container: WorkerContainer) -> None:
    thread_id = await new_thread(container)
    began = time.monotonic()
    async with working(container):
        queued = [
            await container.runs.create(
                ANONYMOUS, RunRequest(assistant_id="wait", input={"seconds": 0.05, "log": []}), thread_id=thread_id
            )
            for _ in range(3)
        ]
        parallel = await container.runs.create_batch(
            ANONYMOUS, [RunRequest(assistant_id="block", input={"seconds": 0.5, "log": []})] * 9
        )
        for run in [*queued, *parallel]:
            assert (await finished(container, run.run_id)).status is RunStatus.SUCCESS
    # nine runs that block their threads for half a second each, beside each other: 4.5 s if they took turns
    assert time.monotonic() - began < 4
    values = (await thread_row(container, thread_id))["channel_values"]
    assert values["log"] == ["waited"] * 3


async def test_cancel_of_a_pending_run(container: WorkerContainer) -> None:
    thread_id = await new_thread(container)
    run = await container.runs.create(
        ANONYMOUS, RunRequest(assistant_id="steps", input={"log": [], "count": 1}), thread_id=thread_id
    )
    cancelled = await container.runs.cancel(ANONYMOUS, thread_id, [run.run_id], CancelAction.INTERRUPT, "test")
    assert cancelled == [run.run_id]
    result = await container.runs.result(run.run_id)
    assert result is not None
    assert result.status is RunStatus.INTERRUPTED
    assert (await thread_row(container, thread_id))["status"] == "idle"
    assert await logged(container, run.run_id) == []
    with pytest.raises(NotFoundError, match="No matching runs"):
        await container.runs.cancel(ANONYMOUS, thread_id, [run.run_id], CancelAction.INTERRUPT, "test")


@pytest.mark.parametrize("graph", ["wait", "block"])
async def test_cancel_of_a_running_run_keeps_what_it_had_done(container: WorkerContainer, graph: str) -> None:
    thread_id = await new_thread(container)
    async with working(container):
        request = RunRequest(assistant_id=graph, input={"seconds": 3, "log": ["in"]}, durability=Durability.SYNC)
        run = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)
        await started(container, run.run_id)
        began = time.monotonic()
        await container.runs.cancel(ANONYMOUS, thread_id, [run.run_id], CancelAction.INTERRUPT, "somebody asked")
        result = await finished(container, run.run_id)
        assert time.monotonic() - began < 2
    assert result.status is RunStatus.INTERRUPTED
    thread = await thread_row(container, thread_id)
    assert thread["status"] in ("interrupted", "idle")
    assert thread["error"] == {"error": "UserInterrupt", "message": "somebody asked"}


async def test_cancel_is_heard_without_the_bell(container: WorkerContainer) -> None:
    thread_id = await new_thread(container)
    async with working(container):
        run = await container.runs.create(
            ANONYMOUS, RunRequest(assistant_id="wait", input={"seconds": 30, "log": []}), thread_id=thread_id
        )
        await started(container, run.run_id)
        async with container.database.connection() as connection:
            await connection.execute("UPDATE lgs.run SET cancel_action = 'interrupt' WHERE run_id = %s", (run.run_id,))
        assert (await finished(container, run.run_id)).status is RunStatus.INTERRUPTED


async def test_rollback_removes_the_run_and_its_checkpoints(container: WorkerContainer) -> None:
    thread_id = await new_thread(container)
    async with working(container):
        first = await container.runs.create(
            ANONYMOUS, RunRequest(assistant_id="wait", input={"seconds": 0, "log": ["a"]}), thread_id=thread_id
        )
        await finished(container, first.run_id)
        before = await checkpoints(container, thread_id)
        second = await container.runs.create(
            ANONYMOUS,
            RunRequest(assistant_id="wait", input={"seconds": 30, "log": ["b"]}, durability=Durability.SYNC),
            thread_id=thread_id,
        )
        await started(container, second.run_id)

        async def begun() -> bool:
            return len(await checkpoints(container, thread_id)) > len(before)

        await until(begun)
        request = RunRequest(
            assistant_id="wait", input={"seconds": 0, "log": ["c"]}, multitask_strategy=MultitaskStrategy.ROLLBACK
        )
        third = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)
        result = await finished(container, third.run_id)
    assert await container.runs.result(second.run_id) is None
    assert result.output["log"] == ["a", "waited", "c", "waited"]
    runs = {run_id for _, run_id in await checkpoints(container, thread_id)}
    assert runs == {str(first.run_id), str(third.run_id)}


async def checkpoints(container: WorkerContainer, thread_id: uuid.UUID) -> list[tuple[str, str]]:
    async with container.database.connection() as connection:
        cursor = await connection.execute(
            "SELECT checkpoint_id, metadata ->> 'run_id' AS run_id FROM checkpoints WHERE thread_id = %s ORDER BY 1",
            (str(thread_id),),
        )
        return [(row["checkpoint_id"], row["run_id"]) for row in await cursor.fetchall()]


async def test_reject_and_interrupt_strategies(container: WorkerContainer) -> None:
    thread_id = await new_thread(container)
    async with working(container):
        slow = RunRequest(assistant_id="wait", input={"seconds": 30, "log": ["a"]}, durability=Durability.SYNC)
        first = await container.runs.create(ANONYMOUS, slow, thread_id=thread_id)
        await started(container, first.run_id)
        with pytest.raises(ConflictError, match="already running"):
            await container.runs.create(
                ANONYMOUS,
                RunRequest(assistant_id="wait", multitask_strategy=MultitaskStrategy.REJECT),
                thread_id=thread_id,
            )
        request = RunRequest(
            assistant_id="wait", input={"seconds": 0, "log": ["b"]}, multitask_strategy=MultitaskStrategy.INTERRUPT
        )
        second = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)
        result = await finished(container, second.run_id)
        assert (await container.runs.result(first.run_id)).status is RunStatus.INTERRUPTED  # type: ignore[union-attr]
    assert result.status is RunStatus.SUCCESS
    assert result.output["log"][-2:] == ["b", "waited"]


async def test_a_stopped_worker_hands_on_at_a_superstep_and_the_next_one_finishes(container: WorkerContainer) -> None:
    thread_id = await new_thread(container)
    request = RunRequest(assistant_id="slow_steps", input={"log": [], "count": 6}, stream_mode=(StreamMode.UPDATES,))
    run = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)

    async def two_steps() -> bool:
        return len(await checkpoints(container, thread_id)) >= 3

    async with working(container):
        await until(two_steps)
    between = await container.runs.get(ANONYMOUS, thread_id, run.run_id)
    assert (between.status, between.resuming, between.wire_status) == (RunStatus.PENDING, True, RunStatus.RUNNING)
    async with working(container):
        result = await finished(container, run.run_id)
        events = await logged(container, run.run_id)
    # nothing is repeated and the stream shows no seam
    assert result.output["log"] == ["step"] * 6
    assert [name for name, _ in events] == ["metadata"] + ["updates"] * 6
    async with container.database.connection() as connection:
        row = await (
            await connection.execute("SELECT attempt, handoffs FROM lgs.run WHERE run_id = %s", (run.run_id,))
        ).fetchone()
    assert row == {"attempt": 1, "handoffs": 1}


async def test_a_lost_worker_is_replaced_and_its_late_writes_are_refused(
    container: WorkerContainer, registry: GraphRegistry
) -> None:
    thread_id = await new_thread(container)
    run = await container.runs.create(
        ANONYMOUS, RunRequest(assistant_id="steps", input={"log": [], "count": 2}), thread_id=thread_id
    )
    queue = QueueRepository(container.database)
    [zombie] = await queue.claim(owner="zombie", limit=1, lease=0.05)
    assert zombie.run.run_id == run.run_id
    saver = FencedSaver(await container.database.pool(), zombie.lease)
    async with working(container):
        result = await finished(container, run.run_id)
    assert result.output["log"] == ["step", "step"]
    before = await checkpoints(container, thread_id)
    async with registry.graph("steps", access_context="threads.create_run", checkpointer=saver) as graph:
        with pytest.raises(LeaseLostError):
            await graph.ainvoke({"log": ["zombie"], "count": 1}, {"configurable": {"thread_id": str(thread_id)}})
    assert await checkpoints(container, thread_id) == before
    with pytest.raises(LeaseLostError):
        await queue.hand_off(zombie.lease)
    assert container.event_log is not None
    with pytest.raises(LeaseLostError):
        await container.event_log.append(zombie.lease, [Event("values", b"{}")])


async def test_a_run_that_loses_every_worker_ends_in_error(container: WorkerContainer) -> None:
    thread_id = await new_thread(container)
    run = await container.runs.create(
        ANONYMOUS, RunRequest(assistant_id="steps", input={"log": [], "count": 1}), thread_id=thread_id
    )
    queue = QueueRepository(container.database)
    for _ in range(container.settings.max_attempts):

        async def claim() -> Any:
            await container.queue.sweep()
            return await queue.claim(owner="doomed", limit=1, lease=0.01) or None

        await until(claim)

    async def buried() -> bool:
        return (await container.queue.sweep()).buried == 1

    await until(buried)
    result = await container.runs.result(run.run_id)
    assert result is not None
    assert result.status is RunStatus.ERROR
    assert result.output["__error__"]["error"] == "RunAttemptsExhausted"
    assert (await thread_row(container, thread_id))["status"] == "error"
    assert [name for name, _ in await logged(container, run.run_id)] == ["error"]


async def test_a_run_that_takes_too_long_ends_in_timeout(worker_on: MakeContainer, registry: GraphRegistry) -> None:
    container = await worker_on(registry, **QUICK, run_timeout=0.3)
    thread_id = await new_thread(container)
    async with working(container):
        run = await container.runs.create(
            ANONYMOUS, RunRequest(assistant_id="wait", input={"seconds": 30, "log": []}), thread_id=thread_id
        )
        result = await finished(container, run.run_id)
    assert result.status is RunStatus.TIMEOUT
    assert result.output["__error__"]["error"] == "TimeoutError"


async def test_a_delayed_run_starts_when_it_is_due(container: WorkerContainer) -> None:
    async with working(container):
        run = await container.runs.create(
            ANONYMOUS,
            RunRequest(assistant_id="steps", input={"log": [], "count": 0}, after_seconds=0.6),
            thread_id=None,
        )
        assert run.created_at > run.updated_at
        await finished(container, run.run_id)
    async with container.database.connection() as connection:
        row = await (
            await connection.execute(
                "SELECT started_at - available_at AS late FROM lgs.run WHERE run_id = %s", (run.run_id,)
            )
        ).fetchone()
    assert row is not None
    assert 0 <= row["late"].total_seconds() < 1.5


async def test_everything_works_without_redis(worker_on: MakeContainer, registry: GraphRegistry) -> None:
    container = await worker_on(registry, **QUICK, redis_uri="")
    thread_id = await new_thread(container)
    async with working(container):
        run = await container.runs.create(
            ANONYMOUS, RunRequest(assistant_id="steps", input={"log": [], "count": 1}), thread_id=thread_id
        )
        assert (await finished(container, run.run_id)).output["log"] == ["step"]
        run = await container.runs.create(
            ANONYMOUS, RunRequest(assistant_id="wait", input={"seconds": 30, "log": []}), thread_id=thread_id
        )
        await started(container, run.run_id)
        await container.runs.cancel(ANONYMOUS, thread_id, [run.run_id], CancelAction.INTERRUPT, "test")
        assert (await finished(container, run.run_id)).status is RunStatus.INTERRUPTED


async def test_a_cancel_while_the_outcome_is_read_neither_loses_the_run_nor_its_end(
    container: WorkerContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph has ended and its state is being read when the cancel arrives: the run still ends, and says how."""
    runner = container.runner
    reading, go_on = asyncio.Event(), asyncio.Event()
    finished_as_usual = runner._finished

    async def finish_slowly(*arguments: Any) -> Any:
        reading.set()
        await go_on.wait()
        return await finished_as_usual(*arguments)

    monkeypatch.setattr(runner, "_finished", finish_slowly)
    thread_id = await new_thread(container)
    async with working(container) as worker:
        run = await container.runs.create(
            ANONYMOUS, RunRequest(assistant_id="steps", input={"log": [], "count": 1}), thread_id=thread_id
        )
        await asyncio.wait_for(reading.wait(), 10)
        await container.runs.cancel(ANONYMOUS, thread_id, [run.run_id], CancelAction.INTERRUPT, "too late")
        [job] = worker._jobs

        async def told() -> bool:
            return job.signals.cancel_action is not None

        await until(told)
        go_on.set()
        result = await finished(container, run.run_id)
        assert await logged(container, run.run_id)
    assert result.status is RunStatus.INTERRUPTED
    assert result.output == {"log": ["step"], "count": 0}
