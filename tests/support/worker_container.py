"""An API and workers in the test's own process, for tests that look into them: what they hold, say and write.

Processes that can be killed are in ``cluster.py``. ``worker_on`` is a pytest fixture (``tests/conftest.py`` names it):
``await worker_on(project, lease_duration=1.5)`` is a container on the session's database that shares no key of Redis with
others and is closed when the test is over. ``working`` runs one of its workers.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dev_server import PATIENCE

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.services.worker import Worker
from langgraph_serverless.settings import Settings

MakeContainer = Callable[..., Awaitable[WorkerContainer]]


@pytest.fixture
async def worker_on(settings: Settings) -> AsyncIterator[MakeContainer]:
    """Makes containers on a project, by the path of its ``langgraph.json`` or loaded already; all else are settings."""
    made: list[WorkerContainer] = []

    async def make(project: Path | GraphRegistry, **overrides: Any) -> WorkerContainer:
        registry = GraphRegistry.load(read_project(project)) if isinstance(project, Path) else project
        own = settings.replace(**{"redis_key_prefix": f"test-{uuid.uuid4().hex[:8]}", **overrides})
        made.append(WorkerContainer(own, registry=registry, manifest=await build_manifest(registry)))
        await made[-1].assistants.ensure_defaults()
        return made[-1]

    yield make
    for container in made:
        await container.aclose()


@asynccontextmanager
async def working(container: WorkerContainer) -> AsyncIterator[Worker]:
    """One worker that consumes the queue, and hands on what it has when the block is left."""
    worker = container.worker()
    task = asyncio.create_task(worker.work())
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(task, PATIENCE)
