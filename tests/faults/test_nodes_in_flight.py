"""A run that is given up names the nodes that it died in, whatever had been saved by then."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dev_server import PATIENCE

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import Durability, RunRequest
from langgraph_serverless.errors import LeaseLostError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.execution.runner import RunSignals
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.settings import Settings

PROJECT = Path(__file__).parent / "project" / "langgraph.json"


@pytest.fixture
async def container(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[WorkerContainer]:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    registry = GraphRegistry.load(read_project(PROJECT))
    own = settings.replace(max_attempts=1, redis_key_prefix=f"test-{uuid.uuid4().hex[:8]}")
    container = WorkerContainer(own, registry=registry, manifest=await build_manifest(registry))
    await container.assistants.ensure_defaults()
    yield container
    await container.aclose()


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize(
    ("graph", "node"),
    [
        ("steps", "step"),
        ("parallel", "left, right"),
        ("sent_and_waiting", "wait"),
        ("nested_and_waiting", "team|wait"),
        ("called_and_waiting", "call|wait_in_a_thread"),
    ],
)
async def test_the_nodes_of_the_last_attempt_are_named(
    container: WorkerContainer, graph: str, node: str, durability: Durability
) -> None:
    thread = await container.threads.create(ANONYMOUS)
    given = RunRequest(assistant_id=graph, input={"name": "a", "steps": 3, "seconds": 60}, durability=durability)
    run = await container.runs.create(ANONYMOUS, given, thread_id=thread.thread_id)
    queue = QueueRepository(container.database)
    (claimed,) = await queue.claim(owner="dies", limit=1, lease=30)
    executing = asyncio.create_task(container.runner.execute(claimed, signals := RunSignals()))
    async with container.database.connection() as connection:
        async with asyncio.timeout(PATIENCE):
            while True:
                cursor = await connection.execute(
                    "SELECT lease_history -> -1 -> 'nodes' AS nodes FROM lgs.run WHERE run_id = %s", (run.run_id,)
                )
                row = await cursor.fetchone()
                assert row is not None
                if row["nodes"] == node.split(", "):
                    break
                await asyncio.sleep(0.02)
        signals.lose()
        with pytest.raises(LeaseLostError):
            await executing
        await connection.execute(
            "UPDATE lgs.run SET lease_expires_at = now() - interval '1 second' WHERE run_id = %s", (run.run_id,)
        )
        async with asyncio.timeout(PATIENCE):
            while True:
                # A sweep passes over a row that is locked, as by a statement of the attempt that has just been ended:
                # Postgres may still be at it. The next sweep takes it.
                await container.queue.sweep()
                cursor = await connection.execute("SELECT * FROM lgs.run WHERE run_id = %s", (run.run_id,))
                ended = await cursor.fetchone()
                assert ended is not None
                if ended["status"] != "running":
                    break
                await asyncio.sleep(0.02)
    assert (ended["status"], ended["last_node"], ended["error"]["error"]) == ("error", node, "RunAttemptsExhausted")
    assert all(f"'{name}'" in ended["error"]["message"] for name in node.split(", "))
