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
from dev_server import PATIENCE
from worker_container import MakeContainer, working

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, Run, RunRequest
from langgraph_serverless.persistence.queue import QueueRepository
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


FIELDS = {"run_id", "thread_id", "graph_id", "attempt", "lease"}


async def test_every_line_about_a_run_names_all_of_it_however_the_run_goes(
    worker_on: MakeContainer, lines: Lines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Timed out, cancelled, failed without a state, handed on, lost, given up, given up for a cancel."""
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    faults = Path(__file__).parent.parent / "faults" / "project" / "langgraph.json"
    container = await worker_on(faults, poll_interval=0.1, max_attempts=1, heartbeat_interval=0.1)
    queue = QueueRepository(container.database)

    async def create(graph: str = "steps", **given: Any) -> Run:
        request = RunRequest(assistant_id=graph, input={"name": "a", "steps": 1, "seconds": 60, **given})
        return await container.runs.create(ANONYMOUS, request, thread_id=None)

    async def cancel(run: Run) -> None:
        await container.runs.cancel(ANONYMOUS, run.thread_id, [run.run_id], CancelAction.INTERRUPT, "taken")

    async def over(*runs: Run) -> None:
        async with asyncio.timeout(PATIENCE), container.database.connection() as connection:
            while True:
                cursor = await connection.execute(
                    "SELECT count(*) AS ended FROM lgs.run WHERE run_id = ANY(%s) AND finished_at IS NOT NULL",
                    ([run.run_id for run in runs],),
                )
                row = await cursor.fetchone()
                if row is not None and row["ended"] == len(runs):
                    return
                await asyncio.sleep(0.02)

    given_up, for_a_cancel = await create(), await create()
    await queue.claim(owner="dies", limit=2, lease=30)
    await cancel(for_a_cancel)
    for _ in range(2):  # the cancelled one has an attempt more
        async with container.database.connection() as connection:
            await connection.execute("UPDATE lgs.run SET lease_expires_at = now() WHERE status = 'running'")
        await container.queue.sweep()
        await queue.claim(owner="dies", limit=1, lease=30)
    await over(given_up, for_a_cancel)
    handed_on = await create()
    async with working(container):
        async with asyncio.timeout(PATIENCE):
            while "run_begun" not in {line["action"] for line in lines.about(handed_on.run_id)}:
                await asyncio.sleep(0.02)
    container.runner.run_timeout = 1.0
    timed_out, cancelled, broken = await create(), await create(), await create()
    lost = await create()
    async with container.database.connection() as connection:
        await connection.execute("UPDATE lgs.run SET graph_id = 'gone' WHERE run_id = %s", (broken.run_id,))
    async with working(container):
        async with asyncio.timeout(PATIENCE):
            while not all(
                "run_begun" in {line["action"] for line in lines.about(run.run_id)} for run in (cancelled, lost)
            ):
                await asyncio.sleep(0.02)
        await cancel(cancelled)
        async with container.database.connection() as connection:
            await connection.execute("DELETE FROM lgs.run WHERE run_id = %s", (lost.run_id,))
            await connection.execute("UPDATE lgs.thread SET status = 'idle' WHERE thread_id = %s", (lost.thread_id,))
        await over(handed_on, timed_out, cancelled, broken)
    expected: list[tuple[Run, set[str]]] = [
        (given_up, {"run_buried"}),
        (for_a_cancel, {"run_buried"}),
        (handed_on, {"run_handed_off", "run_timeout"}),
        (timed_out, {"run_failed", "run_timeout"}),
        (cancelled, {"run_interrupted"}),
        (broken, {"no_state", "run_failed", "run_error"}),
        (lost, {"lease_lost", "run_lost"}),
    ]
    for run, actions in expected:
        told = lines.about(run.run_id)
        assert actions <= {line["action"] for line in told}, told
        for line in told:
            assert line.keys() >= FIELDS, line
            assert line["thread_id"] == str(run.thread_id)
