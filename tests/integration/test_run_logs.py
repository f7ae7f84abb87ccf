"""What the log says about a run's life: each line names the run, its thread, graph, attempt and lease, and none its data."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_container import MakeContainer

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import RunRequest
from langgraph_serverless.telemetry import JsonFormatter

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"
SECRET = "hunter2-the-password"


class Lines(logging.Handler):
    """The lines as a function writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []
        self.ended = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        if "seconds" in record.__dict__:
            self.ended.set()

    def about(self, run_id: uuid.UUID) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.lines) if line.get("run_id") == str(run_id)]


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger = logging.getLogger("langgraph_serverless")
    handler, level = Lines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


@pytest.fixture
async def container(worker_on: MakeContainer) -> WorkerContainer:
    return await worker_on(PROJECT, poll_interval=0.3)


@pytest.mark.parametrize(
    ("graph", "actions"),
    [
        ("steps", ["run_claimed", "run_begun", "run_success"]),
        ("fail", ["run_claimed", "run_begun", "run_failed", "run_error"]),
    ],
)
async def test_the_lines_of_a_runs_life(
    container: WorkerContainer, lines: Lines, graph: str, actions: list[str]
) -> None:
    thread_id = new_id()
    async with container.database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
    request = RunRequest(assistant_id=graph, input={"count": 1, "log": [SECRET]}, context={"api_key": SECRET})
    run = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)
    worker = container.worker()
    working = asyncio.create_task(worker.work())
    await asyncio.wait_for(lines.ended.wait(), 15)
    worker.stop()
    await asyncio.wait_for(working, 15)
    told = lines.about(run.run_id)
    assert [line["action"] for line in told] == actions
    for line in told:
        assert (line["thread_id"], line["graph_id"], line["attempt"]) == (str(thread_id), graph, 1)
        assert line["lease"] == told[0]["lease"]
    async with container.database.connection() as connection:
        cursor = await connection.execute("SELECT lease_history FROM lgs.run WHERE run_id = %s", (run.run_id,))
        row = await cursor.fetchone()
    assert row is not None
    (lease,) = row["lease_history"]
    assert lease["token"].startswith(told[0]["lease"])
    everything = "\n".join(lines.lines)
    assert SECRET not in everything
    assert lease["token"] not in everything
