"""A worker that executes a protocol run is killed: the next one goes on, and whoever reads the records misses nothing.

The same without processes is in ``tests/integration/test_protocol_runs.py``.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import aclosing
from typing import Any

import pytest
from cluster import PROJECT, Cluster
from dev_server import PATIENCE

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.events import is_gap
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import Durability, RunRequest
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project

STEPS = 6


@pytest.mark.slow
async def test_the_records_of_a_run_whose_worker_is_killed(cluster: Cluster) -> None:
    registry = GraphRegistry.load(read_project(PROJECT))
    container = WorkerContainer(cluster.settings(), registry=registry, manifest=await build_manifest(registry))
    try:
        async with asyncio.timeout(PATIENCE), cluster.client() as client:
            thread_id = (await client.threads.create())["thread_id"]
            given = {"name": "s", "steps": STEPS, "seconds": 0.2, "log": []}
            run = await container.runs.create(
                ANONYMOUS,
                RunRequest(assistant_id="steps", input=given, protocol=True, durability=Durability.SYNC),
                thread_id=uuid.UUID(thread_id),
            )
            victim = cluster.worker()
            seen: list[tuple[str, Any]] = []
            assert container.event_hub is not None
            async with aclosing(container.event_hub.read(run.run_id, "0-0")) as batches:
                async for event in (event async for batch in batches for event in batch):
                    if event.is_end:
                        break
                    if is_gap(event):
                        continue
                    data = json.loads(event.data)
                    seen.append((event.name, data["params"]["data"] if "params" in data else data))
                    if event.name == "custom" and victim.running and seen[-1][1]["payload"] == {"step": 3}:
                        victim.kill()
                        cluster.worker()
    finally:
        await container.aclose()
    assert [data["attempt"] for name, data in seen if name == "metadata"] == [1, 2]
    second = [name for name, _ in seen].index("metadata", 1)
    assert seen[second + 1][0] == "values", "what the run had come to, as the first worker may have kept it"
    states = [data for name, data in seen if name == "values"]
    assert states[-1]["log"] == [f"s{number}" for number in range(1, STEPS + 1)]
    told = [data["payload"]["step"] for name, data in seen if name == "custom"]
    assert set(told) == set(range(1, STEPS + 1))
    assert len(told) <= STEPS + 1, "at most the superstep in flight is told twice"
