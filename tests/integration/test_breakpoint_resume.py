"""A worker that is lost at a breakpoint: the next one does not run through it."""

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
from langgraph_serverless.domain.runs import RunRequest, RunStatus
from langgraph_serverless.execution.runner import RunSignals
from langgraph_serverless.persistence.queue import QueueRepository

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"
QUICK = {"heartbeat_interval": 0.1, "lease_duration": 1.5, "poll_interval": 0.2, "sweep_interval": 0.2}


@pytest.fixture
async def container(worker_on: MakeContainer) -> WorkerContainer:
    return await worker_on(PROJECT, **QUICK)


async def finished(container: WorkerContainer, run_id: uuid.UUID) -> Any:
    worker = container.worker()
    task = asyncio.create_task(worker.work())
    until = time.monotonic() + 10
    try:
        while time.monotonic() < until:
            result = await container.runs.result(run_id)
            if result is not None and result.status.is_final:
                return result
            await asyncio.sleep(0.02)
        raise AssertionError("the run did not end")
    finally:
        worker.stop()
        await asyncio.wait_for(task, 10)


async def executed_and_lost(container: WorkerContainer, run_id: uuid.UUID) -> None:
    """Execute the run up to where it stops, as a worker that is killed before it can say so."""
    [claimed] = await QueueRepository(container.database).claim(owner="lost", limit=1, lease=30)
    assert claimed.run.run_id == run_id
    await container.runner.execute(claimed, RunSignals())
    async with container.database.connection() as connection:
        await connection.execute("UPDATE lgs.run SET lease_expires_at = now() WHERE run_id = %s", (run_id,))


@pytest.mark.parametrize("where", ["interrupt_before", "interrupt_after"])
@pytest.mark.parametrize("nodes", [["step"], "*"])
async def test_a_run_stays_at_its_breakpoint(container: WorkerContainer, where: str, nodes: Any) -> None:
    thread_id = new_id()
    async with container.database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
    stops: dict[str, Any] = {where: nodes}
    given = RunRequest(assistant_id="steps", input={"log": [], "count": 3}, **stops)
    run = await container.runs.create(ANONYMOUS, given, thread_id=thread_id)
    await executed_and_lost(container, run.run_id)
    result = await finished(container, run.run_id)
    done = 0 if where == "interrupt_before" else 1
    assert result.status is RunStatus.SUCCESS
    assert result.output["log"] == ["step"] * done, "nobody had agreed to more"
    # and a client that agrees gets one step further, also if that worker is lost as well
    going_on = await container.runs.create(ANONYMOUS, RunRequest(assistant_id="steps", **stops), thread_id=thread_id)
    await executed_and_lost(container, going_on.run_id)
    result = await finished(container, going_on.run_id)
    assert result.output["log"] == ["step"] * (done + 1)
