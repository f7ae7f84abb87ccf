"""A worker function that is full asks for another one, in case that nobody has come for the runs that are left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from worker_container import MakeContainer

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import RunRequest
from langgraph_serverless.queue.slots import SlotBoard

PROJECT = Path(__file__).parent.parent / "faults" / "project" / "langgraph.json"
FUNCTION: dict[str, Any] = {"worker_function_name": "worker", "n_jobs_per_worker": 1, "poll_interval": 0.1}


@pytest.fixture
async def container(worker_on: MakeContainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WorkerContainer:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    return await worker_on(PROJECT, **FUNCTION)


async def test_runs_whose_slots_were_lost_get_another_worker(container: WorkerContainer, clean_database: None) -> None:
    await container.assistants.ensure_defaults()
    invoked: list[str] = []

    class Lambda:
        def invoke(self, *, FunctionName: str, **_: Any) -> None:
            invoked.append(FunctionName)

    assert container.bell.function is not None
    container.bell.function.__dict__["client"] = Lambda()
    assert container.redis is not None
    # somebody has promised to take three, and is gone
    await SlotBoard(container.redis, container.settings.redis_key_prefix).publish("gone", 3, 30)
    given = RunRequest(assistant_id="steps", input={"name": "s", "steps": 1, "seconds": 0.3})
    runs = [await container.runs.create(ANONYMOUS, given, thread_id=None) for _ in range(3)]
    assert invoked == []
    worker = container.worker()
    working = asyncio.create_task(worker.work())
    async with asyncio.timeout(10):
        while not invoked:
            await asyncio.sleep(0.02)
        for run in runs:
            while (result := await container.runs.result(run.run_id)) is None or not result.status.is_final:
                await asyncio.sleep(0.02)
    worker.stop()
    await working
    assert invoked == ["worker"] * 2, "for the two that were left, and not once more for each run that ends"
